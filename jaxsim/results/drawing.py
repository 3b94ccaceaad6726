"""The figure of a result. Who draws says so here, so that results need not know who does."""

from collections.abc import Callable
from typing import Any

FIGURES: dict[type, Callable[..., Any]] = {}  # filled by `jaxsim.plot`


def draw(result: Any, *args: Any, **kwargs: Any) -> Any:
    """Draw a result as `jaxsim.plot` does.

    Raises:
        ValueError: where there is no figure for this kind of result.
    """
    for kind in type(result).__mro__:
        if kind in FIGURES:
            return FIGURES[kind](result, *args, **kwargs)
    known = ", ".join(sorted(kind.__name__ for kind in FIGURES)) or "none: import jaxsim.plot first"
    raise ValueError(f"result: expected one that has a figure ({known}); got a {type(result).__name__}")

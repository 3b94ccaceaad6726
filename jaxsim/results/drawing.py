"""The figure of a result. Who draws says so here, so that results need not know who does."""

import importlib
from collections.abc import Callable
from typing import Any

FIGURES: dict[type, Callable[..., Any]] = {}  # filled by `jaxsim.plot`, which is imported when something is first drawn


def draw(result: Any, *args: Any, **kwargs: Any) -> Any:
    """Draw a result as `jaxsim.plot` does.

    Raises:
        ValueError: where there is no figure for this kind of result.
    """
    importlib.import_module("jaxsim.plot")
    for kind in type(result).__mro__:
        if kind in FIGURES:
            return FIGURES[kind](result, *args, **kwargs)
    known = ", ".join(sorted(kind.__name__ for kind in FIGURES))
    raise ValueError(f"result: expected one that has a figure ({known}); got a {type(result).__name__}")

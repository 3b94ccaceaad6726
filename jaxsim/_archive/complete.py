"""Whether what a file holds can be the whole of a result."""

import dataclasses
import os
import types
import typing
from collections.abc import Mapping
from typing import Any

import jaxtyping
import numpy as np

from jaxsim.problem import Problem


def check_fields(path: str | os.PathLike, cls: type, fields: Mapping[str, Any]) -> None:
    """Hold values against the annotations of the fields that they are to fill.

    Axes that have the same name have the same length, in the problem too.

    Args:
        path: the file, for the message.
        cls: a dataclass.
        fields: what it is to be made of.

    Raises:
        ValueError: where a field is missing, surplus, or of another kind or shape.
    """
    hints, known = typing.get_type_hints(cls), dataclasses.fields(cls)
    without = {
        f.name for f in known if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
    }
    wrong = [f"it lacks {f.name}" for f in known if f.name not in without and f.name not in fields]
    wrong += [f"it holds {name}, which is none of its parts" for name in fields if name not in {f.name for f in known}]
    with jaxtyping.jaxtyped("context"):
        problem = fields.get("problem")
        if isinstance(problem, Problem):
            has_axes(problem.tokens, "n T d")  # which gives them their lengths
        for name, value in fields.items() if not wrong else ():
            hint = hints[name]
            options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
            kinds: Any = tuple(typing.get_origin(option) or option for option in options)
            if not isinstance(value, (*kinds, int) if float in kinds else kinds):
                came = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
                wrong.append(f"{name} is {came[:60]}")
    if wrong:
        raise ValueError(f"path: expected a whole {cls.__name__} at {os.fspath(path)!r}; {wrong[0]}")


def has_axes(value: Any, axes: str) -> bool:
    """Whether this is an array of real numbers with these axes, whose lengths hold for the rest of the context."""
    kind: Any = jaxtyping.Float[np.ndarray, axes]
    return isinstance(value, kind)

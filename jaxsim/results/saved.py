"""Results of this room save and load alike: arrays as arrays, the rest as JSON, in the format of runs."""

import dataclasses
import os
from typing import Any, ClassVar, Self

import numpy as np

from jaxsim import _archive
from jaxsim.problem import Problem


class Saved:
    """A frozen dataclass of arrays, plain values and at most one problem, that saves itself to one .npz file."""

    kind: ClassVar[str]

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to one .npz file; `load` reads it back equal."""
        arrays: dict[str, Any] = {}
        plain: dict[str, Any] = {}
        problem = None
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Problem):
                problem = value
            else:
                (arrays if isinstance(value, np.ndarray) else plain)[field.name] = value
        _archive.write(path, self.kind, problem, arrays, plain)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read what `save` wrote. The file is data: nothing in it is executed.

        Raises:
            ValueError: where the file cannot be read, holds another kind of result, or comes from a newer format.
        """
        problem, arrays, plain = _archive.read(path, cls.kind)
        parts = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
        if problem is not None:
            parts["problem"] = problem
        _archive.check_fields(path, cls, parts | arrays)
        return cls(**parts, **arrays)

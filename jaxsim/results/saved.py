"""Every result saves and loads in one way: arrays as arrays, the rest as JSON, in one .npz file."""

import dataclasses
import html
import os
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from jaxsim import _archive
from jaxsim._text import counted
from jaxsim.analysis import Proportion
from jaxsim.problem import Problem
from jaxsim.results import drawing

WIDEST = 96  # characters of a line that says what a result is


class Saved:
    """A frozen dataclass of arrays, tables of arrays, plain values and at most one problem.

    Attributes:
        kind: what the file says it holds.
    """

    kind: ClassVar[str]

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write everything to one .npz file; `load` reads it back equal.

        Args:
            path: the file, taken as it is.
            overwrite: whether a file of this name may be replaced.

        Raises:
            ValueError: where there is such a file, and it may not.
        """
        if not overwrite and os.path.exists(path):
            raise ValueError(f"path: expected a new file; {os.fspath(path)!r} exists; overwrite=True replaces it")
        problem, arrays, plain = None, {}, {}
        for name, value in self._fields().items():
            if isinstance(value, Problem):
                problem = value
            elif isinstance(value, np.ndarray):
                arrays[name] = value
            elif isinstance(value, dict):
                parts = {key: part for key, part in value.items() if isinstance(part, np.ndarray)}
                arrays |= {f"{name}.{key}": part for key, part in parts.items()}
                plain[name] = {key: part for key, part in value.items() if key not in parts}
            elif value is not None:
                plain[name] = vars(value) if dataclasses.is_dataclass(value) else value
        _archive.write(path, self.kind, problem, arrays, plain)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read what `save` wrote. The file is data: nothing in it is executed.

        Raises:
            ValueError: where the file cannot be read, holds another kind of result, or comes from a newer format.
        """
        problem, arrays, plain = _archive.read(path, cls.kind)
        fields: dict[str, Any] = plain if problem is None else plain | {"problem": problem}
        hints = typing.get_type_hints(cls)
        for name, value in arrays.items():
            group, dot, rest = name.partition(".")
            if dot and isinstance(fields.setdefault(group, {}), dict):
                fields[group] = fields[group] | {rest: value}
            else:
                fields[name] = value
        for name, value in fields.items():
            if typing.get_origin(hints.get(name)) is tuple and isinstance(value, list):
                fields[name] = tuple(value)
        cls._mend(path, fields)
        _archive.check_fields(path, cls, fields)
        cls._check(path, fields)
        return cls(**fields)

    @classmethod
    def _mend(cls, path: str | os.PathLike, fields: dict[str, Any]) -> None:
        """Bring what older versions wrote to the fields of today, and plain values to what they stand for."""

    @classmethod
    def _check(cls, path: str | os.PathLike, fields: Mapping[str, Any]) -> None:
        """Refuse parts that do not fit together, beyond their types and shapes."""

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """Draw it: the figure of `jaxsim.plot` for this kind of result, with its arguments."""
        return drawing.draw(self, *args, **kwargs)

    def _fields(self) -> dict[str, Any]:
        """What is saved, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def _said(self) -> tuple[str, str, str]:
        """In three lines: what it is, how it was made, what came out."""
        fields = self._fields()
        problem, settings = fields.pop("problem", None), fields.pop("settings", {})
        of = "" if problem is None else " of n={}, T={}, d={}".format(*problem.shape)
        made = ", ".join(f"{key} {value}" for key, value in settings.items() if isinstance(value, str | int | float))
        held = [f"{name} {value.shape}" for name, value in fields.items() if isinstance(value, np.ndarray)]
        held += [f"{name} {value}" for name, value in fields.items() if isinstance(value, str | int | float)]
        return f"{type(self).__name__}{of}", made, ", ".join(held)

    def __repr__(self):
        return "\n  ".join(_cut(line) for line in self._said() if line)

    def _repr_html_(self) -> str:
        title, *lines = (html.escape(line) for line in self._said())
        rows = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in self._rows())
        return f"<p><b>{title}</b><br>{'<br>'.join(line for line in lines if line)}</p><table>{rows}</table>"

    def _rows(self) -> list[tuple[str, str]]:
        """Names and values of the table that a notebook shows."""
        return []


def said(result: Any, what: str) -> tuple[str, str, str]:
    """The three lines of a result that has lanes with verdicts."""
    n, T, d = result.problem.shape
    how = [result.settings.get(name) for name in ("loss", "dtype", "coordinates", "train")]
    ends = ", ".join(f"{name} {p.count:,}" for name, p in result.fractions().items() if p.count)
    made = f"{result.lanes:,} lanes, {counted(result.steps[-1])} steps, {', '.join(map(str, how))}"
    return f"{what} of {result.settings['rule']} on n={n}, T={T}, d={d}", made, ends


def shares(fractions: Mapping[str, Proportion]) -> list[tuple[str, str]]:
    """Percentages with their intervals, of what occurs."""
    percent = [(name, 100 * p.value, 100 * p.low, 100 * p.high) for name, p in fractions.items() if p.count]
    return [(name, f"{value:.1f}% [{low:.1f}, {high:.1f}]") for name, value, low, high in percent]


def _cut(line: str) -> str:
    return line if len(line) <= WIDEST else f"{line[: WIDEST - 1]}…"

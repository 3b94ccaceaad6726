"""What a report says, whatever it is about."""

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsim.analysis import VERDICTS
from jaxsim.plot import VERDICT_COLOURS, colour
from jaxsim.plot.style import LINES

DASHES: dict[str, str] = dict(zip(LINES, ("solid", "dashed", "dotted", "dotdash"), strict=True))
DIGITS = 5  # of interval ends in the page


@dataclasses.dataclass(frozen=True)
class Cells:
    """Lanes by problem, law, rule and verdict, with intervals; the rule is counted first, then the law.

    Attributes:
        problems, inits, rules: labels.
        kinds: the rules' names, which choose their colours.
        counts: lanes, (cells, 6), verdicts in the order of `jaxsim.analysis.VERDICTS`.
        low, high: ends of the intervals of the fractions, (cells, 6); NaN where nothing has run.
        numbers: numbers of the laws by name, NaN where a law has none, (inits,) each.
        watched: the verdict that is asked about.
        level: of the intervals.
    """

    problems: Sequence[str]
    inits: Sequence[str]
    rules: Sequence[str]
    kinds: Sequence[str]
    counts: np.ndarray
    low: np.ndarray
    high: np.ndarray
    numbers: dict[str, np.ndarray]
    watched: str
    level: float

    def label(self, index: int) -> str:
        """What tells a cell from the others."""
        rest, rule = divmod(index, len(self.rules))
        problem, init = divmod(rest, len(self.inits))
        parts = (self.problems, problem), (self.inits, init), (self.rules, rule)
        return ", ".join(names[k] for names, k in parts if len(names) > 1) or self.rules[0]

    def plain(self) -> dict[str, Any]:
        """Everything as plain values, compact: arrays are flat, verdicts fastest."""
        lines = [LINES[self.kinds[:k].count(kind) % len(LINES)] for k, kind in enumerate(self.kinds)]
        return {
            "problems": list(self.problems),
            "inits": list(self.inits),
            "rules": list(self.rules),
            "colours": [colour(kind) for kind in self.kinds],
            "dashes": [DASHES[line] for line in lines],
            "verdicts": list(VERDICTS),
            "verdictColours": [VERDICT_COLOURS[name] for name in VERDICTS],
            "counts": self.counts.ravel().tolist(),
            "low": known(self.low),
            "high": known(self.high),
            "numbers": {name: known(values) for name, values in self.numbers.items()},
            "watched": VERDICTS.index(self.watched),
            "level": f"{self.level:.0%}",
        }


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text under a title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure that does not move.

    Attributes:
        title: above it.
        png: the file's bytes.
        words: what it shows, for those who do not see it.
    """

    title: str
    png: bytes
    words: str

    @property
    def source(self) -> str:
        """The file inside an address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclasses.dataclass(frozen=True)
class Content:
    """A report before it is a page.

    Attributes:
        title: of the page.
        question, answers: sentences.
        cells: what the tables and figures are about; None for a page of tables and pictures alone.
        curves: recorded quantities against steps, for runs: see `jaxsim.report.runs`.
        tables, pictures: further ones.
        interval: which kind of interval, in words.
        settings, environment: by name.
        command: what reproduces it; file: a file that the command needs, by name.
        notes: what is damaged, failed or missing.
    """

    title: str
    question: str
    answers: Sequence[str]
    cells: Cells | None
    interval: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    command: str
    curves: Sequence[dict[str, Any]] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    file: tuple[str, str] | None = None
    notes: Sequence[str] = ()


def known(values: np.ndarray) -> list[float | None]:
    """Numbers for JSON to a few digits; None where they are not finite."""
    return [float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in np.asarray(values, float).ravel().tolist()]


def percent(value: float) -> str:
    """A fraction in percent."""
    return f"{100 * value:.1f}%".replace("100.0", "100")


def interval(low: float, high: float) -> str:
    """An interval of fractions in percent; nothing where there is none."""
    return "" if np.isnan(low) else f"[{percent(low)[:-1]}, {percent(high)[:-1]}]"


def number(value: float | None) -> str:
    """A number for a table."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.3g}"

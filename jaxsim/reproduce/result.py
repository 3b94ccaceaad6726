"""What an experiment gives: published and recomputed numbers side by side, a figure, arrays."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Row:
    """One quantity.

    Attributes:
        quantity: what it is, in words.
        recomputed: with scaled gradients and certified max-margin solutions.
        published: as published; None where no number was.
        original: with the arithmetic of the published program (`jaxsim.reproduce.original`); None where not run.
        within: how far published and recomputed may lie apart to be called equal: half a unit of the last digit, the
            accuracy of reading a figure, or the spread between independent draws; the note says which.
        note: why they differ, or how they were compared.
    """

    quantity: str
    recomputed: float
    published: float | None = None
    original: float | None = None
    within: float = 0.0005
    note: str = ""

    @property
    def agrees(self) -> bool | None:
        """Whether published and recomputed agree; None where nothing was published."""
        if self.published is None:
            return None
        return bool(abs(self.published - self.recomputed) <= self.within)

    @property
    def original_agrees(self) -> bool | None:
        """Whether the emulated original gives the published number; None where either is missing."""
        if self.published is None or self.original is None:
            return None
        return bool(abs(self.published - self.original) <= self.within)


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """One experiment, run.

    Attributes:
        name: as on the command line.
        title: one line.
        source: paper, and where its settings come from.
        settings: what was run.
        rows: the numbers.
        figure: the figure.
        arrays: what the figure shows, and more.
        missing: published figures or numbers that could not be reproduced, each with the reason.
    """

    name: str
    title: str
    source: str
    settings: str
    rows: tuple[Row, ...]
    figure: "Figure"
    arrays: dict[str, np.ndarray]
    missing: tuple[str, ...] = ()

    @property
    def unexplained(self) -> list[Row]:
        """Rows that differ from what was published and do not say why."""
        return [row for row in self.rows if row.agrees is False and not row.note]


def number(value: float | None) -> str:
    """Four digits, or a dash where there is none."""
    if value is None:
        return "-"
    if np.isnan(value):
        return "none"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:.5g}"

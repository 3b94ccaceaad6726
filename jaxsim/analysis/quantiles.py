"""Quantiles of numbers too many to keep: counts in bins of stated width, added chunk by chunk."""

import numpy as np
from jaxtyping import Float, Int

WIDTH = 0.01  # of a bin, in units of asinh: 1% of the value, half of it the largest error
UNIT = 1e-3  # below this the bins are evenly spaced, 1e-5 wide
SIDE = int(np.ceil(np.arcsinh(1e9 / UNIT) / WIDTH))  # values beyond ±1e9 count as ±1e9


class Sketch:
    """Counts of R streams of numbers on one grid of bins, even in asinh(value / 1e-3).

    A quantile read off it is within 0.5% of a sample quantile, or within 1e-5 where that is larger, and does not
    depend on the order in which values came. Bins of constant relative width: DDSketch (Masson, Rim, Lee 2019).
    """

    def __init__(self, streams: int):
        self.counts = np.zeros((streams, 2 * SIDE + 1), np.int64)
        self.missing = np.zeros(streams, np.int64)  # NaN

    @staticmethod
    def of(table: Int[np.ndarray, "R bins"]) -> "Sketch":
        """From its counts, with those of NaN in the last column."""
        made = Sketch(len(table))
        if table.shape[1] != made.counts.shape[1] + 1:
            raise ValueError(f"table: expected {made.counts.shape[1] + 1} columns; got {table.shape[1]}")
        made.counts, made.missing = table[:, :-1], table[:, -1]
        return made

    def add(self, values: Float[np.ndarray, "lanes R"]) -> None:
        """Count more values of every stream; NaN is counted apart."""
        known = ~np.isnan(values)
        self.missing += (~known).sum(0)
        limited = np.clip(np.where(known, values, 0.0), -1e9, 1e9)
        index = np.rint(np.arcsinh(limited / UNIT) / WIDTH).astype(np.int64) + SIDE
        index += np.arange(values.shape[1]) * self.counts.shape[1]
        self.counts += np.bincount(index[known], minlength=self.counts.size).reshape(self.counts.shape)

    def quantile(self, q: float) -> Float[np.ndarray, " R"]:
        """The q-quantile of every stream: the smallest bin with q of the counts at or below it; NaN if empty."""
        total = self.counts.sum(1)
        below = np.cumsum(self.counts, axis=1)
        index = (below >= np.maximum(q * total, 1)[:, None]).argmax(1)
        return np.where(total > 0, np.sinh((index - SIDE) * WIDTH) * UNIT, np.nan)

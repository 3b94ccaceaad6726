"""How fast the direction converges: slopes over a stated window, with intervals over lanes."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Real

from jaxsim._check import positive_number
from jaxsim.analysis.intervals import median_bounds

RateLaw = Literal["power", "inverse-log"]
FEWEST = 6  # lanes of which a median has a 95% interval
LARGEST_ERROR = 0.5  # at the end of the window: nothing has converged above it
LEAST_R_SQUARED, MOST_DRIFT = 0.9, 0.5  # of a straight line
TOO_FEW, TOO_LARGE, NOT_STRAIGHT = f"under {FEWEST} lanes", f"error above {LARGEST_ERROR:g}", "not straight"


@dataclasses.dataclass(frozen=True)
class Rate:
    """A fitted rate of the direction error E, and whether it is one.

    Tables tell it only where `refused` is None.

    Attributes:
        law: "power": E ∝ t^slope, a straight line in log E against log t; "inverse-log": E = b + slope / log t.
        slope: median over lanes of the least-squares slopes.
        low, high: 95% interval of the median of what lanes are drawn from, two of the lanes' slopes (`median_bounds`);
            NaN with fewer than six lanes, where none is sure to cover. From six lanes on it covers at least 95%
            whatever the slopes are like: measured 95 to 99% on normal, skewed and unequal ones and on runs of GD, NGD
            and Polyak (a bootstrap of the median: 50% with 2 lanes, 75% with 3, 91% with 8).
        r_squared: median over lanes of R².
        drift: by how much the slope over the later half of the window, in log t, differs from that over the earlier
            half, as a share of the slope: the median over lanes.
        error: median over lanes of E at the end of the window.
        window: first and last step of the fit.
        lanes: how many lanes entered.
    """

    law: RateLaw
    slope: float
    low: float
    high: float
    r_squared: float
    drift: float
    error: float
    window: tuple[int, int]
    lanes: int

    @property
    def refused(self) -> str | None:
        """Why this is no rate; None where it is one (bounds: convention of this project)."""
        if self.lanes < FEWEST or np.isnan(self.slope):
            return TOO_FEW
        if not self.error <= LARGEST_ERROR:
            return TOO_LARGE
        straight = self.r_squared >= LEAST_R_SQUARED and abs(self.drift) <= MOST_DRIFT
        return None if straight else NOT_STRAIGHT


def fit_rate(
    steps: Real[np.ndarray, " R"],
    error: Float[np.ndarray, "lanes R"],
    law: RateLaw = "power",
    window: tuple[int, int] | None = None,
) -> Rate:
    """Fit a law to each lane's direction error and summarise over lanes.

    Args:
        steps: recorded steps, ascending.
        error: direction errors; lanes with a value in the window that is not finite and positive are left out.
        law: the law to fit.
        window: first and last step to use; by default the last decade of the horizon.

    Returns:
        A Rate; with NaN where no lane or fewer than three recorded steps are left.

    Raises:
        ValueError: for an unknown law or a window that is empty.
    """
    if law not in ("power", "inverse-log"):
        raise ValueError(f"law: expected 'power' or 'inverse-log'; got {law!r}")
    last = int(steps[-1])
    low, high = window if window is not None else (max(2, last // 10), last)
    if not 2 <= low < high:
        if window is None:
            return _none(law, (low, high), 0)
        raise ValueError(f"window: expected 2 <= first < last; got {window}")
    inside = (steps >= low) & (steps <= high)
    chosen = error[:, inside]
    chosen = chosen[np.isfinite(chosen).all(1) & (chosen > 0).all(1)]
    if inside.sum() < 3 or len(chosen) == 0:
        return _none(law, (low, high), len(chosen))
    log_t = np.log(steps[inside].astype(float))
    x, y = (log_t, np.log(chosen)) if law == "power" else (1 / log_t, chosen)
    slopes, r_squared = _least_squares(x, y)
    early, late = (
        _least_squares(x[half], y[:, half])[0] if half.sum() > 1 else slopes
        for half in (log_t <= log_t[[0, -1]].mean(), log_t >= log_t[[0, -1]].mean())
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        drift = float(np.median((late - early) / np.abs(slopes)))
    middle, straight = float(np.median(slopes)), float(np.median(r_squared))
    error_there = float(np.median(chosen[:, -1]))
    return Rate(law, middle, *median_bounds(slopes), straight, drift, error_there, (low, high), len(chosen))


def _none(law: RateLaw, window: tuple[int, int], lanes: int) -> Rate:
    """Of nothing that could be fitted."""
    return Rate(law, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, window, lanes)


def _least_squares(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and R² of each row of y against x."""
    dx, dy = x - x.mean(), y - y.mean(1, keepdims=True)
    slopes = dy @ dx / (dx @ dx)
    residual = dy - slopes[:, None] * dx
    total = (dy * dy).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return slopes, 1 - (residual * residual).sum(1) / total


def steps_to(
    steps: Real[np.ndarray, " R"], curve: Float[np.ndarray, "lanes R"], level: float
) -> Float[np.ndarray, " lanes"]:
    """The step from which each curve stays at or below a level; NaN where it does not.

    Args:
        steps: the recorded steps, ascending.
        curve: positive values at these steps.
        level: the level, above 0. Between recorded steps log value is taken as linear in log step, before step 1 the
            step is 1.

    Raises:
        ValueError: where the level is not a number above 0.

    Example:
        >>> steps_to(np.array([1, 100]), np.array([[1.0, 0.01], [1.0, 0.5]]), 0.1)
        array([10., nan])
    """
    positive_number("error", level)
    below = curve <= level
    stays = np.flip(np.logical_and.accumulate(np.flip(below, 1), 1), 1)
    first = stays.argmax(1)
    lane, before = np.arange(len(curve)), np.maximum(first - 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        k, value = np.log(np.maximum(steps.astype(float), 1.0)), np.log(curve)
        fall = value[lane, before] - value[lane, first]
        share = np.where(fall > 0, (value[lane, before] - np.log(level)) / fall, 1.0)
        found = np.exp(k[before] + np.clip(share, 0.0, 1.0) * (k[first] - k[before]))
    return np.where(stays[:, -1], found, np.nan)

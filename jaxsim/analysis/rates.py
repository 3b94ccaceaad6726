"""How fast the direction converges: slopes over a stated window, with intervals over lanes."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Law = Literal["power", "inverse-log"]
BATCH_NUMBERS = 2**21  # resampled values held at once


@dataclasses.dataclass(frozen=True)
class Rate:
    """A fitted rate of the direction error E.

    Attributes:
        law: "power": E ∝ t^slope, a straight line in log E against log t; "inverse-log": E = b + slope / log t.
        slope: median over lanes of the least-squares slopes.
        low, high: 95% bootstrap interval of that median over lanes; NaN with fewer than two lanes.
        r_squared: median over lanes of R².
        window: first and last step of the fit.
        lanes: how many lanes entered.
    """

    law: Law
    slope: float
    low: float
    high: float
    r_squared: float
    window: tuple[int, int]
    lanes: int


def fit_rate(
    steps: Int[np.ndarray, " R"],
    error: Float[np.ndarray, "lanes R"],
    law: Law = "power",
    window: tuple[int, int] | None = None,
    resamples: int = 999,
) -> Rate:
    """Fit a law to each lane's direction error and summarise over lanes.

    Args:
        steps: recorded steps, ascending.
        error: direction errors; lanes with a value in the window that is not finite and positive are left out.
        law: the law to fit.
        window: first and last step to use; by default the last decade of the horizon.
        resamples: bootstrap resamples of lanes, with a fixed seed.

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
            return Rate(law, np.nan, np.nan, np.nan, np.nan, (low, high), 0)
        raise ValueError(f"window: expected 2 <= first < last; got {window}")
    inside = (steps >= low) & (steps <= high)
    chosen = error[:, inside]
    chosen = chosen[np.isfinite(chosen).all(1) & (chosen > 0).all(1)]
    if inside.sum() < 3 or len(chosen) == 0:
        return Rate(law, np.nan, np.nan, np.nan, np.nan, (low, high), len(chosen))
    log_t = np.log(steps[inside].astype(float))
    x, y = (log_t, np.log(chosen)) if law == "power" else (1 / log_t, chosen)
    slopes, r_squared = _least_squares(x, y)
    interval = _bootstrap_median(slopes, resamples)
    return Rate(law, float(np.median(slopes)), *interval, float(np.median(r_squared)), (low, high), len(chosen))


def _least_squares(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and R² of each row of y against x."""
    dx, dy = x - x.mean(), y - y.mean(1, keepdims=True)
    slopes = dy @ dx / (dx @ dx)
    residual = dy - slopes[:, None] * dx
    total = (dy * dy).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return slopes, 1 - (residual * residual).sum(1) / total


def _bootstrap_median(values: np.ndarray, resamples: int) -> tuple[float, float]:
    if len(values) < 2:
        return np.nan, np.nan
    import scipy.stats  # slow to import, and only rates need it

    result = scipy.stats.bootstrap(
        (values,),
        np.median,
        n_resamples=resamples,
        method="percentile",
        batch=max(1, BATCH_NUMBERS // len(values)),
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)

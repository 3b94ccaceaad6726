r"""How W grows along its limit and stays bounded across it, and the constants of the laws that follow.

    W_t = u(t) V + r_t,     V = W^α/‖W^α‖,     r_t ⟂ V,     E_t = ‖W_t/‖W_t‖ - V‖

so that with E² = 2 - 2 cos, u = ‖W_t‖ (1 - E²/2) and ‖r_t‖ = ‖W_t‖ E √(1 - E²/4): norm and direction error tell both.
Where r_t tends to r, E_t u(t) tends to ‖r‖, and the growth of u gives the constant of the law (derived here):

- GD and its kin on W: support tokens have gradients that sum up like the harmonic series, so that their gaps are
  log t + O(1), and u = ‖W^α‖ log t + O(1): E log t → ‖r‖/‖W^α‖, whatever η.
- NGD: every step has length η and comes to lie along V: u = η t + o(t), E t → ‖r‖/η.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Real

from jaxsim.analysis.rates import RateLaw


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Asymptote:
    """W_t = u(t) V + r_t, lane by lane; NaN for lanes that have no limit.

    Attributes:
        law: "inverse-log": E log t tends to a constant; "power": E t does.
        steps: recorded steps after 1, (R,).
        along: u(t), (lanes, R).
        across: ‖r_t‖, (lanes, R).
        across_end: its last value, an estimate of ‖r‖, (lanes,).
        drift: the share by which it has changed since the recorded step next to the square root of the horizon.
        predicted: the constant that `across_end` predicts; NaN where the growth of u is not known beforehand, as
            under Polyak's step, with schedules, or where more than W is trained.
        fitted: the constant c of the least squares E = c/log t, or c/t, over the last decade.
        early: the same over the first part of the run, `window`; NaN where fewer than three recorded steps are in it.
        window: its first and last step.
    """

    law: RateLaw
    steps: Real[np.ndarray, " R"]
    along: Float[np.ndarray, "lanes R"]
    across: Float[np.ndarray, "lanes R"]
    across_end: Float[np.ndarray, " lanes"]
    drift: Float[np.ndarray, " lanes"]
    predicted: Float[np.ndarray, " lanes"]
    fitted: Float[np.ndarray, " lanes"]
    early: Float[np.ndarray, " lanes"]
    window: tuple[float, float]

    @property
    def early_over_predicted(self) -> Float[np.ndarray, " lanes"]:
        """How far off a fit over `window` is: 1 where it finds the constant."""
        return self.early / self.predicted

    def __repr__(self) -> str:
        clock = "log t" if self.law == "inverse-log" else "t"
        return (
            f"Asymptote: {np.isfinite(self.across_end).sum():,} of {len(self.drift):,} lanes have a limit\n"
            f"‖r‖ {_middle(self.across_end)}, changed by {_middle(100 * self.drift)} % since the root of the horizon\n"
            f"E {clock}: predicted {_middle(self.predicted)}, fitted {_middle(self.fitted)}, over steps "
            f"{self.window[0]:g} to {self.window[1]:g} {_middle(self.early)} (medians)"
        )


def growth(
    law: RateLaw, limit_norm: Float[np.ndarray, " lanes"], step_length: float | None, weights_alone: bool
) -> Float[np.ndarray, " lanes"]:
    """What u gains per unit of log t, or of t; NaN where that is not known beforehand.

    Args:
        law: the law of the rule.
        limit_norm: ‖W^α‖ of every lane's selection.
        step_length: the length of every step, of rules that have one.
        weights_alone: whether W is all that is trained.
    """
    if not weights_alone:
        return np.full(len(limit_norm), np.nan)
    if law == "inverse-log":
        return np.where(np.isfinite(limit_norm), limit_norm, np.nan)
    return np.full(len(limit_norm), np.nan if step_length is None else step_length)


def asymptote(
    steps: Real[np.ndarray, " R"],
    norm: Float[np.ndarray, "lanes R"],
    error: Float[np.ndarray, "lanes R"],
    law: RateLaw,
    growth: Float[np.ndarray, " lanes"],
    window: tuple[float, float] = (1e3, 1e6),
) -> Asymptote:
    """Take norm and direction error apart.

    Args:
        steps: recorded steps, ascending.
        norm: ‖W_t‖.
        error: E_t, NaN in lanes without a limit.
        law: what E is proportional to: "inverse-log", 1/log t, or "power", 1/t.
        growth: of u, per unit of log t or of t; NaN where it is not known beforehand.
        window: first and last step of the early fit.

    Raises:
        ValueError: where the window is empty.
    """
    if not 1 < window[0] < window[1]:
        raise ValueError(f"window: expected 1 < first < last; got {window}")
    late = steps > 1
    steps, norm, error = steps[late].astype(float), norm[:, late], error[:, late]
    along, across = norm * (1 - error**2 / 2), norm * error * np.sqrt(np.maximum(1 - error**2 / 4, 0.0))
    clock = np.log(steps) if law == "inverse-log" else steps
    if len(steps) == 0:
        none = np.full(len(norm), np.nan)
        return Asymptote(law, steps, along, across, none, none, none, none, none, window)
    root = np.abs(np.log(steps) - np.log(steps[-1]) / 2).argmin()
    end = across[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        drift, predicted = np.abs(end - across[:, root]) / end, end / growth
    return Asymptote(
        law, steps, along, across, end, drift, predicted,
        _constant(clock, error, steps >= steps[-1] / 10),
        _constant(clock, error, (steps >= window[0]) & (steps <= window[1])),
        window,
    )  # fmt: skip


def _constant(clock: np.ndarray, error: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The constant c of the least squares error = c/clock."""
    if inside.sum() < 3:
        return np.full(len(error), np.nan)
    x = 1 / clock[inside]
    return error[:, inside] @ x / (x @ x)


def _middle(values: np.ndarray) -> str:
    sound = values[np.isfinite(values)]
    return f"{np.median(sound):.4g}" if len(sound) else "-"

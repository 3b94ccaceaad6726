"""How far a start is from another fate: the smallest decisive perturbation."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim._check import finite_array, open_share, positive_number, random_key, whole_number
from jaxsim.basins.bisection import nearest_crossing
from jaxsim.basins.endpoints import Fates
from jaxsim.model import Loss
from jaxsim.problem import Problem
from jaxsim.results.saved import Saved
from jaxsim.rules import Rule

BATCH_LANES = 2**15


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Perturbations(Saved):
    """What `smallest_perturbation` returns.

    Attributes:
        problem: the data.
        settings: how the search was made.
        start: ξ_0, (lanes, size).
        optimal: whether the start selects the optimal tokens at the horizon, (lanes,).
        delta: δ with another fate at ξ_0 + δ, (lanes, size); NaN where none was found within reach.
        size: ‖δ‖, an upper bound on the distance to the border, (lanes,); inf where none was found.
        selection: where ξ_0 + δ goes, (lanes, n); -1 where none was found.
    """

    kind: ClassVar[str] = "perturbations"

    problem: Problem
    settings: dict[str, Any]
    start: Float[np.ndarray, "lanes size"]
    optimal: Bool[np.ndarray, " lanes"]
    delta: Float[np.ndarray, "lanes size"]
    size: Float[np.ndarray, " lanes"]
    selection: Int[np.ndarray, "lanes n"]

    def quantile(self, q: float) -> float:
        """The q-quantile over all lanes of ‖δ‖; inf where it lies beyond reach."""
        return float(np.quantile(self.size, q, method="inverted_cdf"))


def smallest_perturbation(
    problem: Problem,
    rule: Rule,
    start: Any,
    *,
    key: jax.Array,
    reach: float,
    changes: Literal["global", "selection"] = "global",
    directions: int = 32,
    rounds: int = 10,
    tolerance: float = 1e-6,
    steps: int = 2000,
    loss: Literal["logistic", "exponential", "linear", "negative-log"] | Loss = "logistic",
    dtype: Any = None,
    coordinates: Literal["dual", "primal", "full"] | None = None,
) -> Perturbations:
    """For each start the smallest ‖δ‖ found that changes its fate: the robustness of the start.

    Random directions first, then gradient-free refinement along the border (see `jaxsim.basins.bisection`). Only the
    part of δ in the span of the data matters, so δ is searched there.

    Args:
        problem: the data.
        rule: a step-size rule.
        start: ξ_0, (lanes, size), such as `run.start`.
        key: the JAX key of the directions.
        reach: the largest ‖δ‖ of the first search, in the units of W.
        changes: which fate has to change: "global", whether the optimal tokens are selected at the horizon, or
            "selection", which tokens are.
        directions: random directions per start.
        rounds: of refinement.
        tolerance: of ‖δ‖ as a share of `reach`.
        steps: the horizon.
        loss: ℓ.
        dtype: float32 or float64.
        coordinates: those of the starts, `run.settings["coordinates"]`; by default the ones that `simulate` picks.

    Returns:
        A `Perturbations`. Its sizes are upper bounds: a search cannot prove that nothing shorter exists.

    Raises:
        ValueError: where an argument has the wrong shape or range.
    """
    random_key("key", key)
    fates = Fates(problem, rule, steps, loss, dtype, coordinates)
    size = fates.frame.size
    xi = finite_array(
        "start", start, (None, size), f"(lanes, {size}), the {fates.frame.kind} coordinates of the problem"
    )
    if len(xi) == 0:
        raise ValueError("start: expected at least one lane; got none")
    reach, tolerance = positive_number("reach", reach), open_share("tolerance", tolerance)
    directions, rounds = whole_number("directions", directions), whole_number("rounds", rounds, at_least=0)
    if changes not in ("global", "selection"):
        raise ValueError(f"changes: expected 'global' or 'selection'; got {changes!r}")
    span = fates.frame.span
    numbers: dict[bytes, int] = {}

    def label(x: np.ndarray) -> np.ndarray:
        fate = fates(x)
        if changes == "global":
            return fate.optimal
        return np.array([numbers.setdefault(alpha.tobytes(), len(numbers)) for alpha in fate.selection])

    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
    batch = max(1, BATCH_LANES // max(directions, 2 * len(span)))
    rngs = [np.random.default_rng([*seed, lane]) for lane in range(len(xi))]
    parts = [
        nearest_crossing(
            label,
            xi[k : k + batch],
            span,
            rngs[k : k + batch],
            reach,
            tolerance * reach,
            directions,
            rounds,
        )  # fmt: skip
        for k in range(0, len(xi), batch)
    ]
    delta = np.concatenate(parts)
    found = np.isfinite(delta[:, 0])
    ends = fates(xi + np.where(found[:, None], delta, 0.0))
    settings = fates.settings() | {"reach": reach, "tolerance": tolerance, "changes": changes,
                                   "directions": directions, "rounds": rounds, "key": seed}  # fmt: skip
    length = np.where(found, np.linalg.norm(np.where(found[:, None], delta, 0.0), axis=1), np.inf)
    selection = np.where(found[:, None], ends.selection, -1)
    return Perturbations(problem, settings, xi, fates(xi).optimal, delta, length, selection)

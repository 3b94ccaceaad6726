"""Edge tracking: the border between starts that go global and starts that do not, and where it leads."""

import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.special
from jaxtyping import Bool, Float, Int

from jaxsim._check import finite_array, positive_number, whole_number
from jaxsim.basins.bisection import bisect
from jaxsim.basins.endpoints import Fate, Fates
from jaxsim.model import Loss
from jaxsim.problem import Problem
from jaxsim.results.saved import Saved
from jaxsim.rules import Rule, check_rule, parameters

COMPETES = 0.05  # of the largest gradient entry, from which a token counts as competing (convention of this project)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Edges(Saved):
    """What `edges` returns. P pairs.

    Attributes:
        problem: the data.
        settings: how the search was made.
        inside: ξ_0 that goes global, (P, size).
        outside: ξ_0 that does not, (P, size), at most `gap` away.
        gap: ‖inside - outside‖, the Frobenius distance of the two starts, (P,).
        selections: where the two ends go, (P, 2, n).
        saturated: whether each end had saturated at the horizon, (P, 2). On the edge itself runs settle late.
    """

    kind: ClassVar[str] = "edges"

    problem: Problem
    settings: dict[str, Any]
    inside: Float[np.ndarray, "P size"]
    outside: Float[np.ndarray, "P size"]
    gap: Float[np.ndarray, " P"]
    selections: Int[np.ndarray, "P 2 n"]
    saturated: Bool[np.ndarray, "P 2"]


def edges(
    problem: Problem,
    rule: Rule,
    inside: Any,
    outside: Any,
    *,
    gap: float = 1e-10,
    steps: int = 2000,
    loss: Literal["logistic", "exponential", "linear", "negative-log"] | Loss = "logistic",
    dtype: Any = None,
    coordinates: Literal["dual", "primal", "full"] | None = None,
) -> Edges:
    """Bisect between starts that go global and starts that do not, many pairs at once.

    The side of a start is whether its selection after `steps` steps is the optimal one (convention of this project).

    Args:
        problem: the data.
        rule: a step-size rule.
        inside: ξ_0 of starts that go global, (P, size), such as `run.start[goes]` with
            `goes = (run.selection == problem.optimal).all(1)`.
        outside: ξ_0 of starts that do not, (P, size).
        gap: Frobenius distance at which to stop.
        steps: the horizon.
        loss: ℓ.
        dtype: float32 or float64.
        coordinates: those of the starts, `run.settings["coordinates"]`; by default the ones that `simulate` picks.

    Returns:
        An `Edges`.

    Raises:
        ValueError: where the two ends of a pair have the same side (the message names one), shapes differ, or `gap` is
            below what the dtype resolves.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(2), n=4, T=5, d=6)
        >>> rule = jaxsim.rules.NGD(0.1)
        >>> run = jaxsim.simulate(problem, rule, jaxsim.init.Gaussian(3.0), key=jax.random.key(1), lanes=64, steps=500)
        >>> goes = (run.selection == problem.optimal).all(1)
        >>> pairs = run.start[goes][:2], run.start[~goes][:2]
        >>> found = jaxsim.basins.edges(problem, rule, *pairs, gap=1e-3, steps=500)
        >>> bool((found.gap <= 1e-3).all())
        True
    """
    fates = Fates(problem, rule, steps, loss, dtype, coordinates)
    a, b = _pairs(fates, inside, outside)
    reachable = 8 * float(np.finfo(fates.work.options.dtype).eps) * max(np.abs(a).max(), np.abs(b).max())
    gap = positive_number("gap", gap)
    if gap < reachable:
        raise ValueError(f"gap: {fates.work.options.dtype} resolves {reachable:.1e} between these starts; got {gap:g}")
    _refuse_equal_sides(fates(a).optimal, fates(b).optimal)
    a, b = bisect(lambda xi: fates(xi).optimal, a, b, gap)
    return _assemble(fates, a, b)


def _pairs(fates: Fates, inside: Any, outside: Any) -> tuple[np.ndarray, np.ndarray]:
    size = fates.frame.size
    expected = f"(pairs, {size}), the {fates.frame.kind} coordinates of the problem"
    a = finite_array("inside", inside, (None, size), expected)
    b = finite_array("outside", outside, (len(a), size), expected)
    if len(a) == 0:
        raise ValueError("inside: expected at least one pair; got none")
    return a, b


def _refuse_equal_sides(first: np.ndarray, second: np.ndarray) -> None:
    wrong = np.flatnonzero(~first | second)
    if len(wrong):
        k = int(wrong[0])
        what = (
            "neither goes"
            if not first[k] and not second[k]
            else "both go"
            if first[k]
            else "they are swapped: one goes"
        )
        raise ValueError(
            f"inside: expected pairs of which the first goes global and the second does not; of pair {k} {what} global "
            f"({len(wrong)} of {len(first)} pairs are wrong: {wrong[:8].tolist()}{' …' if len(wrong) > 8 else ''})"
        )


def _assemble(fates: Fates, a: np.ndarray, b: np.ndarray) -> Edges:
    ends = fates(a), fates(b)
    return Edges(
        fates.work.problem,
        fates.settings(),
        a,
        b,
        np.linalg.norm(a - b, axis=1),
        np.stack([end.selection for end in ends], axis=1),
        np.stack([end.saturated for end in ends], axis=1),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class EdgeStates(Saved):
    """What `edge_states` returns. P pairs, S stretches of the trajectory.

    Attributes:
        problem: the data.
        settings: how it was followed.
        times: steps taken after each stretch, (S,).
        xi: W in reduced coordinates after each stretch, (P, S, size).
        norm: ‖W‖ inside the span after each stretch, (P, S).
        attention: the attention map φ after each stretch, (P, S, n, T).
        pull: the gradient in the logits over its largest entry, (P, S, n, T): which tokens the steps act on, and
            which way. Below 0 where a step raises the logit.
        log10_grad_norm: log10 ‖∇L‖ after each stretch, (P, S).
        moved: direction ‖W/‖W‖ - W'/‖W'‖‖ from the stretch before, (P, S); small where the edge settles.
        spread: distance of the two ends after each stretch and before they are bisected again, (P, S).
        lost: pairs whose ends came to lie on one side, and the stretch from which they are NaN, -1 for none, (P,).
    """

    kind: ClassVar[str] = "edge states"

    problem: Problem
    settings: dict[str, Any]
    times: Int[np.ndarray, " S"]
    xi: Float[np.ndarray, "P S size"]
    norm: Float[np.ndarray, "P S"]
    attention: Float[np.ndarray, "P S n T"]
    pull: Float[np.ndarray, "P S n T"]
    log10_grad_norm: Float[np.ndarray, "P S"]
    moved: Float[np.ndarray, "P S"]
    spread: Float[np.ndarray, "P S"]
    lost: Int[np.ndarray, " P"]

    @property
    def competing(self) -> Bool[np.ndarray, "P n T"]:
        """The tokens that the last steps act on: at least 5% of the largest gradient entry."""
        with np.errstate(invalid="ignore"):
            return np.abs(self.pull[:, -1]) >= COMPETES


def edge_states(
    found: Edges,
    rule: Rule,
    *,
    stretches: int = 20,
    stretch: int | None = None,
    loss: str | Loss | None = None,
) -> EdgeStates:
    """Follow the border along the dynamics: advance both ends, bisect them together again, and so on.

    The ends straddle the border of one basin all the way, so what they follow is a trajectory on the border, whatever
    it is: a state at rest, or a direction in which W grows while a token of higher score and one of lower score keep
    level behind the selected one, so that their pulls cancel.

    Args:
        found: what `edges` gave, under float64 (or with a gap that the dtype resolves).
        rule: the rule of `found`: GD, NGD or Polyak with a constant step, because a run is taken up again from W alone.
        stretches: how many times to advance.
        stretch: steps at a time; by default the stretches cover half the horizon of `found`. What is left of the
            horizon decides the side of a state, so that the border stays the same.
        loss: ℓ of `found`; needed where it was given as a function.

    Raises:
        ValueError: for another rule, or where the stretches reach the horizon.
    """
    whole_number("stretches", stretches)
    check_rule(rule)
    same = (
        found.settings["rule_data"] == parameters(rule)
        if "rule_data" in found.settings
        else (
            found.settings["rule"] == repr(rule)  # of edges that were saved before
        )
    )
    if not same:
        raise ValueError(f"rule: expected the rule of the edges, {found.settings['rule']}; got {rule!r}")
    how = found.settings
    stretch = whole_number("stretch", max(1, how["steps"] // (2 * stretches)) if stretch is None else stretch)
    if stretches * stretch >= how["steps"]:
        raise ValueError(
            f"stretch: expected stretches · stretch below the horizon {how['steps']} of the edges; got "
            f"{stretches} · {stretch}"
        )
    fates = Fates(found.problem, rule, how["steps"], loss or how["loss"], how["dtype"], how["coordinates"])
    if fates.work.options.loss.name != how["loss"]:
        raise ValueError(f"loss: expected the loss of the edges, {how['loss']}; got {fates.work.options.loss.name}")
    fates.restartable()
    a, b = found.inside, found.outside
    lost = np.full(len(a), -1)
    path: list[tuple[Fate, np.ndarray]] = []
    for s in range(stretches):
        left = how["steps"] - (s + 1) * stretch
        ahead, beside = fates(a, stretch), fates(b, stretch)
        a, b = ahead.xi, beside.xi
        path.append((ahead, np.linalg.norm(a - b, axis=1)))
        gone = (lost < 0) & ~(fates(a, left).optimal & ~fates(b, left).optimal)
        lost[gone] = s
        resolved = 64 * np.finfo(fates.work.options.dtype).eps * np.abs(a).max(1)
        b = np.where((lost >= 0)[:, None], a, b)  # nothing to bisect there
        a, b = bisect(lambda xi, left=left: fates(xi, left).optimal, a, b, np.maximum(found.gap, resolved))
    xi = np.stack([fate.xi for fate, _ in path], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        norm = np.linalg.norm(xi, axis=2)
        unit = xi / norm[:, :, None]
    moved = np.concatenate([np.full((len(a), 1), np.nan), np.linalg.norm(np.diff(unit, axis=1), axis=2)], axis=1)
    logits = np.stack([fate.logits for fate, _ in path], axis=1)
    masked = np.where(found.problem.visible, logits, -np.inf)
    values = {
        "xi": xi,
        "norm": norm,
        "attention": scipy.special.softmax(masked, axis=3),
        "pull": np.stack([fates.pull(fate.logits) for fate, _ in path], axis=1),
        "log10_grad_norm": np.stack([fate.log10_grad_norm for fate, _ in path], axis=1),
        "moved": moved,
        "spread": np.stack([spread for _, spread in path], axis=1),
    }
    after = (lost[:, None] >= 0) & (np.arange(stretches) >= lost[:, None])
    for value in values.values():
        value[after] = np.nan
    times = stretch * np.arange(1, stretches + 1)
    return EdgeStates(found.problem, how | {"stretch": stretch}, times, lost=lost, **values)

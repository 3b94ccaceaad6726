"""Attractors by enumeration: which selections a run may end at, and whether runs did."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxsim._check import whole_number
from jaxsim.analysis.intervals import Proportion, wilson
from jaxsim.margin import MarginSolver, MaxMargin
from jaxsim.problem import Problem

MOST = 10**6
BATCH = 4096


def attractors(problem: Problem, selections: Iterable[Any] | None = None, most: int = MOST) -> list[MaxMargin]:
    """Every selection that is feasible and locally optimal, the global one among them, by ascending norm.

    A sequence whose constraints alone cannot be met by a token rules out every selection with that token; what is
    left is solved exactly, selection by selection.

    Args:
        problem: the data.
        selections: the selections to test; by default all of them.
        most: the largest number of selections to solve.

    Returns:
        Their max-margin solutions with norms, support tokens and certificates.

    Raises:
        ValueError: where more than `most` selections are left. Give those you care about, such as the ones that
            runs ended at (`Run.selections`).

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=2, T=3, d=4)
        >>> [mm.selection.tolist() for mm in jaxsim.attractors(problem)]
        [[0, 1]]
    """
    whole_number("most", most)
    if selections is None:
        tokens = [_separable(problem, i) for i in range(len(problem.labels))]
        count = math.prod(len(t) for t in tokens)
        if count > most:
            raise ValueError(
                f"most: {count:,} selections are left after pruning; expected at most {most:,}. Raise `most`, or test "
                "the selections that runs ended at: attractors(problem, selections=run.selections)"
            )
        selections = itertools.product(*tokens)
    solver = MarginSolver(problem)
    found = [mm for part in _batches(selections) for mm in solver.solve_many(part)]
    kept = [mm for mm in found if mm.attracts]
    return sorted(kept, key=lambda mm: mm.norm)


def _separable(problem: Problem, i: int) -> list[int]:
    """The tokens of sequence i that some W separates from its other tokens."""
    mask = problem.visible[i][None]
    if mask.sum() == 1:
        return [int(mask[0].argmax())]
    keys = problem.keys[i][None]
    # Scores play no part in a max-margin problem: any decoder without ties will do.
    tokens = np.arange(keys.shape[1], dtype=float)[None, :, None]
    alone = Problem(tokens, problem.queries[i][None], [1], [1.0], mask, keys)
    solver = MarginSolver(alone)
    return [int(t) for t in np.flatnonzero(mask[0]) if solver.solve(np.array([t])).feasible]


def _batches(selections: Iterable[Any]) -> Iterator[list[np.ndarray]]:
    stream = iter(selections)
    while part := list(itertools.islice(stream, BATCH)):
        yield [np.asarray(alpha) for alpha in part]


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Enumerated attractors held against the lanes of a run.

    Attributes:
        attractors: the enumerated ones.
        fractions: the proportion of all lanes that saturated at each, with Wilson intervals.
        covered: of the saturated lanes, those that are at one of them; None where no lane has saturated.
        elsewhere: saturated lanes that are at none, as (lane, selection, verdict); run one alone, longer, to see
            whether it leaves.
    """

    attractors: list[MaxMargin]
    fractions: list[Proportion]
    covered: Proportion | None
    elsewhere: list[tuple[int, Int[np.ndarray, " n"], str]]


def predict(run: Any, found: list[MaxMargin]) -> Prediction:
    """Hold enumerated attractors against a run of the same problem.

    Args:
        run: a `Run` with a fixed decoder.
        found: what `attractors` gave.

    Raises:
        ValueError: where the attractors belong to another problem.
    """
    if any(mm.problem.fingerprint() != run.problem.fingerprint() for mm in found[:1]):
        raise ValueError("found: expected attractors of the problem of the run; got those of another problem")
    number = {tuple(mm.selection.tolist()): k for k, mm in enumerate(found)}
    verdict = run.verdict
    saturated = run.finite & run.saturated[:, -1]
    at = np.array([number.get(tuple(alpha), -1) for alpha in run.selection.tolist()])
    fractions = [wilson(int(np.sum(saturated & (at == k))), run.lanes) for k in range(len(found))]
    covered = wilson(int(np.sum(saturated & (at >= 0))), int(saturated.sum())) if saturated.any() else None
    lost = np.flatnonzero(saturated & (at < 0))
    return Prediction(found, fractions, covered, [(int(i), run.selection[i], str(verdict[i])) for i in lost])

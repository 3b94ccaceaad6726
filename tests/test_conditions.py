"""The reported conditions against their definitions, one by one."""

import jax
import numpy as np
import pytest

import jaxsim


def test_against_the_definitions():
    base = jaxsim.data.unit_sphere(jax.random.key(3), n=3, T=4, d=7)
    mask = np.ones((3, 4), bool)
    mask[1, 2] = False
    problem = jaxsim.Problem(base.tokens, base.queries, base.labels, base.decoder, mask)
    found = jaxsim.conditions(problem)
    ratio = 0.0
    for i in range(3):
        s = sorted(problem.scores[i, t] for t in range(4) if mask[i, t])
        assert found.score_gap[i] == pytest.approx(s[-1] - s[-2])
        assert found.other_spread[i] == pytest.approx(s[-2] - s[0])
        ratio = max(ratio, (s[-2] - s[0]) / (s[-1] - s[-2]))
    assert found.spread_over_gap == pytest.approx(ratio)
    x = [problem.tokens[i, t] for i in range(3) for t in range(4) if mask[i, t]]
    pairs = [(a, b) for k, a in enumerate(x) for b in x[:k]]
    assert found.coherence == pytest.approx(max(abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs))
    weakest = min(a @ a for a in x) / (10 * max(abs(a @ b) for a, b in pairs))
    assert found.weakest_over_overlap == pytest.approx(weakest)
    mm = jaxsim.max_margin(problem)
    assert (found.norm, found.support_tokens, found.constraints) == (mm.norm, mm.support.sum(), 8)
    margins = np.einsum("itd,de,ie->it", problem.tokens[np.arange(3), mm.selection][:, None] - problem.tokens, mm.W,
                        problem.queries)  # fmt: skip
    least = margins[mask & (np.arange(4) != mm.selection[:, None])].min()
    largest = max(np.linalg.norm(a) for a in x) * np.linalg.norm(problem.queries, axis=1).max()
    assert found.margin == pytest.approx(least / mm.norm / largest)


def test_orthogonal_infeasible_and_single_tokens():
    orthogonal = jaxsim.conditions(jaxsim.data.orthonormal(jax.random.key(0)))
    assert orthogonal.coherence < 1e-12 and orthogonal.feasible and orthogonal.weakest_over_overlap > 1e9
    x = np.array([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [-2.0]]])
    y = jaxsim.Problem(x, np.array([[1.0], [1.0]]), [1, -1], [1.0], np.array([[True] * 3, [False, False, True]]))
    alone = jaxsim.conditions(y)
    assert alone.score_gap.tolist() == [1.0, np.inf] and alone.other_spread.tolist() == [1.0, 0.0]
    blocked = jaxsim.Problem(np.array([[[1.0], [2.0]], [[1.0], [2.0]]]), np.ones((2, 1)), [1, -1], [1.0])
    found = jaxsim.conditions(blocked)
    assert not found.feasible and found.margin == 0 and found.norm == np.inf

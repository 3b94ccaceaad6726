"""Max-margin matrices in other norms: certificates, closed forms, invariances, bad input."""

import jax
import numpy as np
import pytest

import jaxsim
from jaxsim.normed import dual_norm_of, norm_of

NORMS = [
    ("frobenius", None),
    ("nuclear", None),
    ("spectral", None),
    ("l1", None),
    ("linf", None),
    ("lp", 1.5),
    ("lp", 3),
    ("spectral/linf", None),
    ("nuclear/l1/frobenius", None),
]


def margins(problem, mm):
    x, z, alpha = problem.tokens, problem.queries, mm.selection
    every = np.einsum("itd,de,ie->it", x[np.arange(len(x)), alpha][:, None] - x, mm.W, z)
    return np.array([np.delete(row, t) for row, t in zip(every, alpha, strict=True)])


@pytest.mark.parametrize(("norm", "p"), NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_solutions_are_feasible_and_certified(norm, p, seed):
    problem = jaxsim.data.unit_sphere(jax.random.key(seed), n=4, T=4, d=5)
    mm = jaxsim.max_margin(problem, norm=norm, p=p)
    assert mm.status == "optimal" and -1e-9 < mm.gap <= 1e-6
    assert margins(problem, mm).min() == pytest.approx(1, abs=1e-9)
    assert norm_of(mm.W, norm, p) == pytest.approx(mm.norm, rel=1e-9)
    exact = jaxsim.max_margin(problem)
    assert mm.norm <= norm_of(exact.W, norm, p) * (1 + 1e-6)  # no other feasible matrix is smaller
    if norm == "frobenius" or p == 2:
        np.testing.assert_allclose(mm.W, exact.W, atol=1e-4 * exact.norm)


@pytest.mark.parametrize("norm", ["spectral/linf", "linf/spectral", "frobenius/linf", "spectral/frobenius/linf"])
@pytest.mark.parametrize("d", [5, 6])
def test_hybrid_solutions_are_certified_to_nine_digits(norm, d):
    """The bound from below is Σ λ_m over the sum of the blocks' dual norms of Σ λ_m A_m."""
    for seed in range(3):
        problem = jaxsim.data.unit_sphere(jax.random.key(seed), n=4, T=5, d=d)
        assert -1e-9 <= jaxsim.max_margin(problem, norm=norm).gap <= 1e-9


def test_hybrid_norms_are_those_of_their_blocks():
    W = np.random.default_rng(0).standard_normal((5, 3))
    upper, lower = W[:3], W[3:]
    assert norm_of(W, "spectral/linf") == max(np.linalg.norm(upper, 2), np.abs(lower).max())
    assert dual_norm_of(W, "spectral/linf") == np.linalg.norm(upper, "nuc") + np.abs(lower).sum()
    assert norm_of(W[:1], "spectral/linf") == norm_of(W[:1], "spectral")  # no rows are left for the second block


def test_one_constraint_has_a_closed_form():
    """min N(W) with ⟨A, W⟩ ≥ 1 is 1 / N*(A)."""
    rng = np.random.default_rng(0)
    problem = jaxsim.Problem(rng.standard_normal((1, 2, 3)), rng.standard_normal((1, 4)), [1], [1.0, 0.0, 0.0])
    A = np.outer(problem.tokens[0, problem.optimal[0]] - problem.tokens[0, 1 - problem.optimal[0]], problem.queries[0])
    for norm, p in NORMS:
        mm = jaxsim.max_margin(problem, norm=norm, p=p)
        assert mm.norm == pytest.approx(1 / dual_norm_of(A, norm, p), rel=1e-6)


def test_infeasible_is_a_status():
    x = np.array([[[1.0], [2.0], [3.0]]])
    problem = jaxsim.Problem(x, np.ones((1, 1)), [1], [1.0])
    mm = jaxsim.max_margin(problem, [1], norm="nuclear")
    assert mm.status == "infeasible" and mm.norm == np.inf and np.isnan(mm.W).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(norm="trace"), "norm: expected one of frobenius, .*, lp, or some of them .*; got 'trace'"),
        (dict(norm="spectral/lp", p=3), "norm: expected one of frobenius, .*; got 'spectral/lp'"),
        (dict(norm=3), "norm: expected one of frobenius, .*; got 3"),
        (dict(norm="lp"), "p: expected a number above 1 for the lp norm; got None"),
        (dict(norm="lp", p=1), "p: expected a number above 1 for the lp norm; got 1"),
        (dict(norm="l1", p=3), "p: expected nothing for the norm 'l1'; got 3"),
    ],
)
def test_bad_norms(options, message):
    with pytest.raises(ValueError, match=message):
        jaxsim.max_margin(jaxsim.data.unit_sphere(jax.random.key(0)), **options)

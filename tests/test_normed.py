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
        (dict(norm="trace"), "norm: expected one of frobenius, nuclear, spectral, l1, linf, lp; got 'trace'"),
        (dict(norm="lp"), "p: expected a number above 1 for the lp norm; got None"),
        (dict(norm="lp", p=1), "p: expected a number above 1 for the lp norm; got 1"),
        (dict(norm="l1", p=3), "p: expected nothing for the norm 'l1'; got 3"),
    ],
)
def test_bad_norms(options, message):
    with pytest.raises(ValueError, match=message):
        jaxsim.max_margin(jaxsim.data.unit_sphere(jax.random.key(0)), **options)

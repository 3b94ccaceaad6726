"""The max-margin reference: certificates, an independent solver, closed forms, infeasibility."""

import jax
import numpy as np
import pytest
from conftest import DATA

import jaxsim
from jaxsim.margin import MarginSolver, solve_each


def brute_constraints(problem, alpha):
    """Constraint matrices (x_α - x_t) z^T, one by one, straight from the definition."""
    n, T, _ = problem.shape
    return [
        np.outer(problem.tokens[i, alpha[i]] - problem.tokens[i, t], problem.queries[i])
        for i in range(n)
        for t in range(T)
        if t != alpha[i] and problem.visible[i, t]
    ]


FAMILIES = {
    "unit-sphere": lambda: jaxsim.data.unit_sphere(jax.random.key(0)),
    "signal-noise": lambda: jaxsim.data.signal_noise(jax.random.key(1)),
    "orthonormal": lambda: jaxsim.data.orthonormal(jax.random.key(2)),
    "digits": lambda: jaxsim.data.digits(),
    "digits-positions": lambda: jaxsim.data.digits(positions=True),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_certificate_from_the_definition(family):
    """Primal feasibility and the dual bound, recomputed in d × d from nothing but W and the multipliers."""
    problem = FAMILIES[family]()
    n, T, _ = problem.shape
    rng = np.random.default_rng(3)
    for alpha in [problem.optimal, *rng.integers(0, T, (20, n))]:
        mm = jaxsim.max_margin(problem, alpha)
        if not mm.feasible:
            continue
        margins = np.array([np.sum(A * mm.W) for A in brute_constraints(problem, alpha)])
        assert margins.min() > 1 - 1e-9
        assert (mm.multipliers >= 0).all() and mm.gap <= 1e-9 and mm.status == "optimal"
        dual = 2 * mm.multipliers.sum() - np.sum(mm.W**2)
        assert abs(dual - mm.norm**2) <= 1e-8 * mm.norm**2
        assert mm.norm == pytest.approx(np.linalg.norm(mm.W), rel=1e-10)
        assert not np.any((mm.multipliers > 1e-9 * mm.multipliers.max()) & ~mm.support)


@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_with_clarabel(family):
    problem = FAMILIES[family]()
    n, T, _ = problem.shape
    for alpha in [problem.optimal, np.random.default_rng(0).integers(0, T, n)]:
        exact, other = jaxsim.max_margin(problem, alpha), jaxsim.max_margin(problem, alpha, engine="cvxpy")
        np.testing.assert_allclose(exact.W, other.W, atol=1e-6 * exact.norm, rtol=0)
        assert exact.norm == pytest.approx(other.norm, rel=1e-6)


def test_agrees_with_the_published_solutions():
    with np.load(DATA / "published_local_converge.npz") as z:
        for r in range(50):
            problem = jaxsim.Problem(z["X"][r], z["Z"][r], z["y"][r], z["u"][r])
            mm = jaxsim.max_margin(problem, z["published_selection"][r])
            np.testing.assert_allclose(mm.W, z["max_margin_W"][r], rtol=0, atol=1e-9 * mm.norm)


def test_two_tokens_one_sequence_closed_form():
    """W^α = (x_α - x_t) zᵀ / (‖x_α - x_t‖² ‖z‖²)."""
    rng = np.random.default_rng(5)
    x, z = rng.standard_normal((1, 2, 3)), rng.standard_normal((1, 3))
    problem = jaxsim.Problem(x, z, [1], rng.standard_normal(3))
    mm = jaxsim.max_margin(problem, [1])
    difference = x[0, 1] - x[0, 0]
    np.testing.assert_allclose(mm.W, np.outer(difference, z[0]) / (difference @ difference * (z[0] @ z[0])), rtol=1e-12)
    assert mm.support.tolist() == [[True, False]]


@pytest.fixture
def opposed():
    """Two sequences with the same tokens and opposite queries: the same choice in both cannot be separated."""
    x = np.array([[[1.0, 0.0], [0.0, 1.0]]] * 2)
    return jaxsim.Problem(x, [[1.0, 0.0], [-1.0, 0.0]], [1, 1], [1.0, 0.0])


@pytest.mark.parametrize("engine", ["exact", "cvxpy"])
def test_infeasible_is_a_result(opposed, engine):
    mm = jaxsim.max_margin(opposed, [0, 0], engine=engine)
    assert mm.status == "infeasible" and mm.norm == np.inf and not mm.feasible and not mm.locally_optimal
    assert np.isnan(mm.W).all()
    assert jaxsim.max_margin(opposed, [0, 1], engine=engine).status == "optimal"


def test_token_between_two_others_cannot_be_selected():
    x = np.array([[[0.0, 1.0], [0.0, 3.0], [0.0, 2.0]]])
    problem = jaxsim.Problem(x, [[1.0, 1.0]], [1], [0.0, 1.0])
    assert jaxsim.max_margin(problem, [2]).status == "infeasible"
    assert jaxsim.max_margin(problem).feasible


def test_local_optimality_follows_from_support_and_scores():
    problem = jaxsim.data.digits(positions=True)
    seen = set()
    for alpha in np.random.default_rng(1).integers(0, 4, (50, 20)):
        mm = jaxsim.max_margin(problem, alpha)
        better = [
            problem.scores[i, t] > problem.scores[i, alpha[i]] for i, t in zip(*np.nonzero(mm.support), strict=True)
        ]
        assert mm.locally_optimal == (not any(better))
        seen.add(mm.locally_optimal)
    assert jaxsim.max_margin(problem).locally_optimal and False in seen


def test_hidden_tokens_do_not_constrain(problem):
    mask = np.ones((3, 4), bool)
    mask[0, 3] = False
    masked = jaxsim.Problem(problem.tokens, problem.queries, problem.labels, problem.decoder, mask)
    alpha = np.zeros(3, int)
    mm = jaxsim.max_margin(masked, alpha)
    assert mm.multipliers[0, 3] == 0 and not mm.support[0, 3]
    assert mm.norm <= jaxsim.max_margin(problem, alpha).norm * (1 + 1e-12)
    with pytest.raises(ValueError, match="selection: token of sequence 0 is hidden"):
        jaxsim.max_margin(masked, [3, 0, 0])


def square(seed=3):
    rng = np.random.default_rng(seed)
    x, z, u = rng.standard_normal((4, 4, 8)), rng.standard_normal((4, 8)), rng.standard_normal(8)
    return x, z, [1, -1, 1, -1], u - u.mean()


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_a_common_part_of_the_tokens_does_not_matter(offset):
    x, z, y, u = square()
    plain, moved = jaxsim.max_margin(jaxsim.Problem(x, z, y, u)), jaxsim.max_margin(jaxsim.Problem(x + offset, z, y, u))
    assert moved.status == "optimal" and moved.norm == pytest.approx(plain.norm, rel=1e-15 * offset + 1e-13)


def test_scale_of_the_data_only_scales_the_solution():
    x, z, y, u = square()
    plain = jaxsim.max_margin(jaxsim.Problem(x, z, y, u))
    for factor in (1e-85, 1e-8, 1e8):
        scaled = jaxsim.max_margin(jaxsim.Problem(factor * x, z, y, u))
        assert scaled.status == "optimal" and scaled.norm * factor == pytest.approx(plain.norm, rel=1e-12)


def test_one_small_sequence_keeps_its_precision():
    """With sequence 0 scaled by f, the norm grows like 1/f² in self-attention: 1e-4 gives the f → 0 limit."""
    x, _, y, u = square()
    norms = []
    for factor in (1e-3, 1e-4):
        scaled = x.copy()
        scaled[0] *= factor
        mm = jaxsim.max_margin(jaxsim.Problem(scaled, 0, y, u))
        assert mm.status in ("optimal", "inaccurate") and mm.gap <= 1e-6
        norms.append(mm.norm * factor**2)
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_what_a_mask_hides_does_not_matter():
    x, z, y, u = square()
    mask = np.ones((4, 4), bool)
    mask[:, 3] = False
    norms = []
    for hidden in (0.0, 1e8):
        x[:, 3] = hidden + np.arange(8)
        norms.append(jaxsim.max_margin(jaxsim.Problem(x, z, y, u, mask)).norm)
    assert norms[0] == norms[1]


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5, 1e-7])
def test_nearly_infeasible_is_right_or_says_so(epsilon):
    """Queries (±1, ε) and the same choice of two orthonormal tokens: ‖W‖ = 1/(√2 ε)."""
    x = np.array([[[1.0, 0.0], [0.0, 1.0]]] * 2)
    mm = jaxsim.max_margin(jaxsim.Problem(x, [[1.0, epsilon], [-1.0, epsilon]], [1, 1], [1.0, 0.0]), [0, 0])
    right = mm.norm == pytest.approx(1 / (np.sqrt(2) * epsilon), rel=1e-8)
    assert right if mm.status == "optimal" else mm.status == "inaccurate"


def test_no_convergence_is_not_called_infeasible(problem, monkeypatch):
    def stuck(*_, **__):
        raise RuntimeError

    monkeypatch.setattr("scipy.optimize.nnls", stuck)
    assert jaxsim.max_margin(problem).status == "inaccurate"


@pytest.mark.parametrize(
    ("selection", "message"),
    [([0, 0], "expected 3 token indices"), ([0, 0, 4], "from 0 to 3"), ([0.0, 0.0, 0.0], "expected 3 token indices")],
)
def test_bad_selection(problem, selection, message):
    with pytest.raises(ValueError, match=message):
        jaxsim.max_margin(problem, selection)


def test_unknown_engine(problem):
    with pytest.raises(ValueError, match="engine: expected"):
        jaxsim.max_margin(problem, engine="magic")


@pytest.mark.slow
def test_a_thousand_distinct_selections_in_two_seconds():
    import time

    problem = jaxsim.data.unit_sphere(jax.random.key(0))
    selections = np.unique(np.random.default_rng(0).integers(0, 8, (1100, 6)), axis=0)[:1000]
    assert len(selections) == 1000
    began = time.perf_counter()
    solutions = jaxsim.MarginSolver(problem).solve_many(selections)
    seconds = time.perf_counter() - began
    assert all(mm.status == "optimal" for mm in solutions)
    assert seconds < 2, seconds


@pytest.mark.promise
def test_problems_that_are_solved_together_are_solved_as_alone():
    rng = np.random.default_rng(0)
    problems, selections = [], []
    for n, T, d, hidden in [(3, 4, 5, False), (3, 4, 5, True), (3, 4, 5, False), (3, 4, 1, False), (3, 4, 1, False)]:
        mask = np.ones((n, T), bool)
        mask[0, T - 1] = not hidden
        queries, labels = rng.normal(size=(n, d)), np.resize([1.0, -1.0], n)
        problems.append(jaxsim.Problem(rng.normal(size=(n, T, d)), queries, labels, rng.normal(size=d), mask))
        selections.append(rng.integers(0, T - 1, (len(problems) - 1, n)))  # of the first none
    together = solve_each(problems, selections)
    assert {mm.status for found in together for mm in found} == {"optimal", "infeasible"}
    for problem, alphas, found in zip(problems, selections, together, strict=True):
        for mm, alone in zip(found, MarginSolver(problem).solve_many(alphas), strict=True):
            assert mm.problem is problem and (mm.status, mm.norm, mm.gap) == (alone.status, alone.norm, alone.gap)
            np.testing.assert_array_equal(mm.multipliers, alone.multipliers)
            np.testing.assert_array_equal(mm.support, alone.support)


@pytest.mark.promise
def test_a_selection_does_not_depend_on_its_company():
    problem = jaxsim.data.unit_sphere(jax.random.key(3), n=5, T=6, d=4)
    solver = MarginSolver(problem)
    selections = np.unique(np.random.default_rng(0).integers(0, 6, (300, 5)), axis=0)
    together = solver.solve_many(selections)
    for alpha, mm in zip(selections[::7], together[::7], strict=True):
        alone = solver.solve(alpha)
        assert alone.status == mm.status and alone.norm == mm.norm
        np.testing.assert_array_equal(alone.multipliers, mm.multipliers)

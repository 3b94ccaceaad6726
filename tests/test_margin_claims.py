"""What is claimed of a selection holds for the floats as they are, at every scale and in every engine."""

import jax
import margin_reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxsim
from jaxsim.normed import norm_of

NORMS = ["frobenius", "nuclear", "spectral", "l1", "linf"]


def keyed(keys, queries):
    """A problem whose scores say nothing: what counts here are keys and queries."""
    keys = np.asarray(keys, float)
    tokens = np.broadcast_to(np.arange(keys.shape[1], dtype=float)[None, :, None], (*keys.shape[:2], 1))
    return jaxsim.Problem(tokens, queries, np.ones(len(keys)), [1.0], keys=keys)


def flat_triangle(e, angle=0.0):
    """Two tokens that lie, but for e, on opposite sides of the selected one: the norm is 1/e."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return keyed(np.array([[[0.0, e], [1.0, 0.0], [-1.0, 0.0]]]) @ turn, [[1.0, 0.0]])


def of_three_sizes():
    """Three sequences of sizes 1e6, 1e-6 and 1."""
    rng = np.random.default_rng(3)
    keys = rng.standard_normal((3, 4, 5)) * np.array([1e6, 1e-6, 1.0])[:, None, None]
    return keyed(keys, rng.standard_normal((3, 5)))


def assert_true(problem, alpha, mm):
    """The status, the norm and the gap of an exact solution, held against rational arithmetic."""
    reference = margin_reference.solve(problem, alpha)
    if mm.status == "inaccurate":
        assert reference.fragile and mm.norm == np.inf
    elif reference.multipliers is None:
        assert mm.status == "infeasible" and mm.norm == np.inf and np.isnan(mm.W).all()
    else:
        assert mm.status == "optimal" and 0 <= mm.gap <= 1e-9
        assert abs(mm.norm / reference.norm - 1) <= 1e-9
        assert (mm.multipliers >= 0).all()
        assert abs(np.linalg.norm(mm.W) / reference.norm - 1) <= 1e-9


@pytest.mark.parametrize("exponent", [2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14])
def test_a_flat_triangle_is_optimal_however_flat(exponent):
    e = 10.0**-exponent
    problem = flat_triangle(e)
    mm = jaxsim.max_margin(problem, [0])
    assert mm.status == "optimal" and mm.gap <= 1e-9 and mm.norm * e == pytest.approx(1, rel=1e-9)
    bound = margin_reference.dual_bound(problem, [0], mm.multipliers)
    assert abs(float(bound * margin_reference.Fraction(e) ** 2) - 1) <= 2e-9
    assert abs(float(margin_reference.least_margin(problem, [0], mm.W)) - 1) <= 1e-9


@pytest.mark.parametrize("exponent", [16, 20, 60, 140])
def test_a_triangle_flat_to_the_rounding_of_its_tokens_is_inaccurate_not_infeasible(exponent):
    problem = flat_triangle(10.0**-exponent)
    for mm in (jaxsim.max_margin(problem, [0]), jaxsim.max_margin(problem, [0], engine="cvxpy")):
        assert mm.status == "inaccurate" and mm.norm == np.inf
    assert jaxsim.max_margin(flat_triangle(0.0), [0]).status == "infeasible"


@pytest.mark.parametrize("exponent", [4, 8, 12])
@pytest.mark.parametrize("angle", [0.3, 1.0])
def test_a_flat_triangle_that_is_turned_is_what_its_floats_say(exponent, angle):
    problem = flat_triangle(10.0**-exponent, angle)
    assert_true(problem, [0], jaxsim.max_margin(problem, [0]))


def test_collinear_tokens_are_infeasible_and_a_last_place_beside_it_says_nothing():
    """The three sides of the convention: exactly so, so but for rounding, and visibly not so."""
    for shift, status in ((0.0, "infeasible"), (np.spacing(2.0), "inaccurate"), (1e-13, "optimal")):
        problem = keyed([[[2.0, 2.0 + shift], [1.0, 1.0], [3.0, 3.0]]], [[1.0, 2.0]])
        mm = jaxsim.max_margin(problem, [0])
        assert mm.status == status
        assert_true(problem, [0], mm)
    for angle in (0.1, 0.3, 1.0):  # exact or not, rational arithmetic knows
        first, last = np.array([np.cos(angle), np.sin(angle)]), np.array([3.0, 1.0])
        problem = keyed([[(first + last) / 2, first, last]], [[1.0, 2.0]])
        assert_true(problem, [0], jaxsim.max_margin(problem, [0]))


def test_a_query_of_zeros_is_infeasible():
    problem = keyed(np.random.default_rng(0).standard_normal((2, 3, 2)), [[0.0, 0.0], [1.0, 0.0]])
    for engine in ("exact", "cvxpy"):
        assert jaxsim.max_margin(problem, [0, 0], engine=engine).status == "infeasible"
    assert jaxsim.max_margin(problem, [0, 0], norm="nuclear").status == "infeasible"


def test_sequences_of_three_sizes_are_feasible_for_every_engine_and_norm():
    problem = of_three_sizes()
    for alpha in ([0, 0, 0], [1, 2, 3]):
        exact = jaxsim.max_margin(problem, alpha)
        assert exact.status == "optimal"
        other = jaxsim.max_margin(problem, alpha, engine="cvxpy")
        assert other.status == "optimal" and other.norm == pytest.approx(exact.norm, rel=1e-6)
        for norm in NORMS:
            mm = jaxsim.max_margin(problem, alpha, norm=norm)
            assert mm.status == "optimal" and mm.norm <= norm_of(exact.W, norm) * (1 + 1e-6)
            if norm == "frobenius":
                assert mm.norm == pytest.approx(exact.norm, rel=1e-6)


@pytest.mark.parametrize("exponent", [6, 8, 10, 12])
def test_no_engine_and_no_norm_calls_a_flat_triangle_infeasible(exponent):
    e = 10.0**-exponent
    problem = flat_triangle(e)
    for mm in (
        jaxsim.max_margin(problem, [0], engine="cvxpy"),
        *(jaxsim.max_margin(problem, [0], norm=norm) for norm in NORMS),
    ):
        assert mm.status in ("optimal", "inaccurate")
        if mm.status == "optimal":
            assert mm.norm * e == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_one_constraint_has_its_closed_form_at_every_scale(scale):
    """min N(W) with ⟨A, W⟩ ≥ 1 is 1 / N*(A); the dual norms are written out."""
    problem = keyed(scale * np.array([[[1.0, 2.0, 3.0], [0.5, -1.0, 4.0]]]), [[3.0, -4.0]])
    x, z = scale * np.array([0.5, 3.0, -1.0]), np.array([3.0, -4.0])
    product = np.linalg.norm(x) * np.linalg.norm(z)
    entries = np.abs(np.outer(x, z))
    dual = dict(frobenius=product, nuclear=product, spectral=product, l1=entries.max(), linf=entries.sum())
    for norm in NORMS:
        mm = jaxsim.max_margin(problem, [0], norm=norm)
        assert mm.status == "optimal" and mm.norm * dual[norm] == pytest.approx(1, rel=1e-6)


def test_a_hard_margin_does_not_depend_on_the_sizes_of_the_rows():
    from jaxsim.margin import hard_margin

    unit, norm = hard_margin(np.array([[-1.0, 1e-12], [1.0, 1e-12]]))
    np.testing.assert_allclose(unit, [0, 1], atol=1e-12)
    assert norm * 1e-12 == pytest.approx(1, rel=1e-9)
    unit, norm = hard_margin(np.array([[1e8, 0.0], [1.0, 1e-8], [0.0, 1e-8]]))
    assert norm * 1e-8 == pytest.approx(1, rel=1e-9)
    assert hard_margin(np.array([[1.0, 1.0], [-2.0, -2.0]]))[1] == np.inf
    assert hard_margin(np.array([[0.1, 0.3], [-0.1, -0.3]]))[1] == np.inf
    assert hard_margin(np.zeros((2, 2)))[1] == np.inf


SMALL = st.integers(-4, 4).map(float) | st.floats(-4, 4).map(lambda v: round(v, 3))


@st.composite
def hostile_problems(draw, constraints=None):
    """Small problems of every rank, with sizes, offsets, opposite queries and near-ties over many orders."""
    n, d, e = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    T = draw(st.integers(2, 3)) if constraints is None else 1 + constraints // n

    def array(*shape):
        return np.array(draw(st.lists(SMALL, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))).reshape(
            shape
        )

    keys, queries = array(n, T, d), array(n, e)
    alpha = draw(st.lists(st.integers(0, T - 1), min_size=n, max_size=n))
    if n == 2 and draw(st.booleans()):  # the same tokens and opposite queries: infeasible, or nearly so
        keys[1], queries[1] = keys[0], -queries[0]
        queries[1, 0] += draw(st.sampled_from([0.0, 1e-3, 1e-9, 1e-14]))
    if draw(st.booleans()):  # a token beside the selected one
        i, t = draw(st.integers(0, n - 1)), draw(st.integers(0, T - 1))
        if t != alpha[i]:
            keys[i, t] = keys[i, alpha[i]] + 10.0 ** -draw(st.integers(1, 12)) * array(d)
    if draw(st.booleans()):  # the selected token between the others, or nearly so
        i = draw(st.integers(0, n - 1))
        others = np.delete(np.arange(T), alpha[i])
        keys[i, alpha[i]] = keys[i, others].mean(0)
        keys[i, alpha[i], 0] += draw(st.sampled_from([0.0, 1e-4, 1e-8, 1e-12]))
    if draw(st.booleans()):
        keys = keys * 10.0 ** np.array(draw(st.lists(st.integers(-8, 8), min_size=n, max_size=n)))[:, None, None]
    if draw(st.booleans()):
        queries = queries * 10.0 ** np.array(draw(st.lists(st.integers(-8, 8), min_size=n, max_size=n)))[:, None]
    if draw(st.booleans()):
        keys = keys + 10.0 ** draw(st.integers(0, 8))
    for i in range(n):  # distinct, as a problem asks
        while len(np.unique(keys[i], axis=0)) < T:
            keys[i] = keys[i] + np.arange(T)[:, None] * max(np.abs(keys[i]).max(), 1e-8)
    return keyed(keys, queries), alpha


@given(hostile_problems())
@settings(max_examples=150, derandomize=True, deadline=None)
def test_every_claim_holds_in_rational_arithmetic(drawn):
    problem, alpha = drawn
    assert_true(problem, alpha, jaxsim.max_margin(problem, alpha))


@pytest.mark.slow
@given(hostile_problems())
@settings(max_examples=3000, derandomize=True, deadline=None)
def test_every_claim_holds_in_rational_arithmetic_at_length(drawn):
    problem, alpha = drawn
    assert_true(problem, alpha, jaxsim.max_margin(problem, alpha))


def assert_engines_agree(problem, alpha):
    """No engine contradicts another, and the solvers' word alone decides nothing."""
    exact = jaxsim.max_margin(problem, alpha)
    other = jaxsim.max_margin(problem, alpha, engine="cvxpy")
    assert (other.status == "infeasible") == (exact.status == "infeasible")
    if other.status == "optimal":
        assert other.norm == pytest.approx(exact.norm, rel=1e-6)
    for norm in NORMS:
        mm = jaxsim.max_margin(problem, alpha, norm=norm)
        assert (mm.status == "infeasible") == (exact.status == "infeasible"), norm
        if mm.status == "optimal":
            # No feasible W has a smaller Frobenius norm, and every norm is within a factor of that one.
            rank = min(problem.W_shape) ** 0.5
            size = (problem.W_shape[0] * problem.W_shape[1]) ** 0.5
            low = dict(frobenius=1, nuclear=1, spectral=1 / rank, l1=1, linf=1 / size)[norm]
            assert mm.norm >= exact.norm * low * (1 - 1e-6), norm
            assert mm.norm <= norm_of(exact.W, norm) * (1 + 1e-6), norm
        if mm.status == "optimal" and norm == "frobenius":
            assert mm.norm == pytest.approx(exact.norm, rel=1e-6)


@given(hostile_problems())
@settings(max_examples=20, derandomize=True, deadline=None)
def test_engines_agree(drawn):
    assert_engines_agree(*drawn)


@pytest.mark.slow
@given(hostile_problems())
@settings(max_examples=500, derandomize=True, deadline=None)
def test_engines_agree_at_length(drawn):
    assert_engines_agree(*drawn)


def assert_norms_hold(problem, alpha):
    """Both bounds of every norm, held against 120 digits; only for two constraints that can be met."""
    if margin_reference.solve(problem, alpha).multipliers is None:
        return
    for name in NORMS:
        mm, true = jaxsim.max_margin(problem, alpha, norm=name), margin_reference.norm_of_two(problem, alpha, name)
        assert mm.status in ("optimal", "inaccurate"), name
        assert mm.norm >= true * (1 - 1e-8), name  # also where inaccurate
        if np.isfinite(mm.norm):
            assert mm.norm * (1 - mm.gap) <= true * (1 + 1e-8), name
            assert (mm.status == "optimal") == (mm.gap <= 1e-6), name


@given(hostile_problems(constraints=2))
@settings(max_examples=15, derandomize=True, deadline=None)
def test_bounds_of_every_norm_hold(drawn):
    assert_norms_hold(*drawn)


@pytest.mark.slow
@given(hostile_problems(constraints=2))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_bounds_of_every_norm_hold_at_length(drawn):
    assert_norms_hold(*drawn)


def test_ordinary_selections_need_no_more_than_floats(monkeypatch):
    """Nor does the usual infeasible selection, a token inside the hull of the others."""
    import jaxsim.margin.stack as stack

    def refuse(*_):
        raise AssertionError("an ordinary selection was handed to rational arithmetic")

    monkeypatch.setattr(stack, "decide", refuse)
    every = [(jaxsim.data.unit_sphere(jax.random.key(0)), 100), (jaxsim.data.digits(), 20)]
    flat = jaxsim.Problem(np.random.default_rng(1).standard_normal((3, 8, 2)), 0, [1, 1, 1], [1.0, 0.0])
    inside = [[0, 0, 0], [7, 7, 7], [1, 2, 3], [4, 5, 6]]
    for problem, count in every:
        n, T, _ = problem.shape
        solved = jaxsim.MarginSolver(problem).solve_many(np.random.default_rng(0).integers(0, T, (count, n)))
        assert {mm.status for mm in solved} == {"optimal"}
    assert "infeasible" in {mm.status for mm in jaxsim.MarginSolver(flat).solve_many(inside)}

"""Key-query training: references, invariances, the two limits, what lies outside the spans, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_models_reference import load, problem_of, relative

import jaxsim
from jaxsim import init, rules, train

KEY = jax.random.key(0)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 2e-5)])
@pytest.mark.parametrize(("name", "rule"), [("kq_gd", rules.GD(1.0)), ("kq_ngd", rules.NGD(0.05))])
def test_trajectory_matches_high_precision(name, rule, dtype, tolerance):
    case = load(name)
    run = jaxsim.simulate(
        problem_of(case), rule, init.Factors(case["K0"], case["Q0"]), key=KEY, lanes=2, steps=int(case["steps"][-1]),
        record=case["steps"].tolist(), train=train.KeyQuery(2), keep=("logits",), dtype=dtype,
    )  # fmt: skip
    R = len(case["steps"])
    assert relative(run.logits[1].reshape(R, -1), case["logits"]) < tolerance
    if dtype == "float64":
        largest = case["log10_norms"].max(1)
        whole = largest + np.log10((100.0 ** (case["log10_norms"] - largest[:, None])).sum(1)) / 2
        np.testing.assert_allclose(run.log10_grad_norm[0], whole, rtol=1e-9, atol=1e-8)


def test_shallow_autodiff_in_full_space_with_a_mask():
    """d exceeds what tokens and queries span, so parts of K and Q lie outside; rows of K and Q, not of W, are equal."""
    base = jaxsim.data.unit_sphere(jax.random.key(0), n=2, T=3, d=9)
    mask = np.array([[True, True, True], [True, False, True]])
    problem = jaxsim.Problem(base.tokens, base.queries, base.labels, base.decoder, mask)
    rng = np.random.default_rng(0)
    K0, Q0 = rng.standard_normal((2, 9, 3)) / 2

    def loss(K, Q):
        a = jnp.einsum("itd,dm,em,ie->it", problem.tokens, K, Q, problem.queries)
        m = (jax.nn.softmax(jnp.where(mask, a, -jnp.inf), 1) * problem.scores).sum(1)
        return jnp.logaddexp(0.0, -m).mean()

    K, Q = jnp.asarray(K0), jnp.asarray(Q0)
    for _ in range(25):
        dK, dQ = jax.grad(loss, (0, 1))(K, Q)
        K, Q = K - 0.5 * dK, Q - 0.5 * dQ
    run = jaxsim.simulate(
        problem, rules.GD(0.5), init.Factors(K0, Q0), key=KEY, lanes=1, steps=25, train=train.KeyQuery(3)
    )
    np.testing.assert_allclose(run.more["K"][0], K, atol=1e-12)
    np.testing.assert_allclose(run.more["Q"][0], Q, atol=1e-12)
    W = np.asarray(K @ Q.T)
    np.testing.assert_allclose(run.W(0), W, atol=1e-12)
    assert run.norm[0, -1] == pytest.approx(np.linalg.norm(W), rel=1e-12)
    mm = jaxsim.max_margin(problem, run.selection[0])
    assert run.direction_error[0, -1] == pytest.approx(np.linalg.norm(W / np.linalg.norm(W) - mm.W / mm.norm), rel=1e-9)
    nuclear = jaxsim.max_margin(problem, run.selection[0], norm="nuclear").W
    error = np.linalg.norm(W / np.linalg.norm(W) - nuclear / np.linalg.norm(nuclear))
    assert run.more["nuclear_direction_error"][0, -1] == pytest.approx(error, rel=1e-6)


def test_the_limit_is_nuclear_and_not_frobenius():
    """The published experiment reports mean correlations of about 0.997 and 0.85 (its steps shortened by an eps)."""
    correlations = {"nuclear": [], "frobenius": []}
    for k in range(6):
        problem = jaxsim.data.unit_sphere(jax.random.key(k))
        run = jaxsim.simulate(
            problem, rules.NGD(0.1), init.Gaussian(0.3), key=KEY, lanes=2, steps=2000, train=train.KeyQuery(10)
        )
        assert run.finite.all()
        correlations["nuclear"] += list(1 - run.more["nuclear_direction_error"][:, -1] ** 2 / 2)
        correlations["frobenius"] += list(1 - run.direction_error[:, -1] ** 2 / 2)
        assert (run.more["effective_rank"][:, -1] < 6).all() and (run.more["effective_rank"] >= 1).all()
    nuclear, frobenius = np.median(correlations["nuclear"]), np.median(correlations["frobenius"])
    assert nuclear > 0.98 and nuclear > frobenius + 0.05


@pytest.mark.promise
def test_lanes_do_not_depend_on_chunks():
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    options = dict(key=KEY, lanes=40, steps=30, train=train.KeyQuery(2, nuclear=False))
    one = jaxsim.simulate(problem, rules.NGD(0.1), init.Gaussian(0.1), **options)
    two = jaxsim.simulate(problem, rules.NGD(0.1), init.Gaussian(0.1), chunk_lanes=8, **options)
    np.testing.assert_array_equal(one.more["K"], two.more["K"])
    np.testing.assert_array_equal(one.direction_error, two.direction_error)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train.KeyQuery(0), "width: expected at least 1; got 0"),
        (lambda: dict(init=init.Zero()), "init: expected jaxsim.init.Gaussian or jaxsim.init.Factors"),
        (lambda: dict(coordinates="dual"), r"coordinates: KeyQuery\(.*\) runs in primal coordinates; got 'dual'"),
        (lambda: dict(init=init.Factors(np.ones((4, 2)), np.ones((5, 2)))), r"K0: expected matrices \(5, 2\)"),
        (lambda: dict(init=init.Factors(np.ones((3, 5, 2)), np.ones((5, 2)))), "K0: expected one matrix per lane, 1"),
        (lambda: init.Factors(np.ones(3), np.ones(3)), "K0: expected two or three axes"),
        (lambda: dict(train=train.Weights(), init=init.Factors(np.ones((5, 2)), np.ones((5, 2)))), "Factors start K"),
    ],
)
def test_bad_input(make, message):
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    with pytest.raises(ValueError, match=message):
        arguments = dict(init=init.Gaussian(1.0), train=train.KeyQuery(2)) | make()
        jaxsim.simulate(problem, rules.NGD(0.1), key=KEY, lanes=1, steps=1, **arguments)

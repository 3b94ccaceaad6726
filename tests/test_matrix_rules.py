"""Rules on the matrix W: references, invariances or their absence, the geometry each prefers, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_models_reference import load, problem_of, relative

import jaxsim
from jaxsim import init, rules, train
from jaxsim.rules import MATRIX_RULES

KEY = jax.random.key(0)
REFERENCE = {
    "sign": rules.SignDescent(0.5),
    "adam": rules.Adam(0.5),
    "mirror": rules.Mirror(1.0, p=3),
    "spectral": rules.Spectral(0.05),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 2e-5)])
@pytest.mark.parametrize("name", REFERENCE)
def test_trajectory_matches_high_precision(name, dtype, tolerance):
    case = load(name)
    run = jaxsim.simulate(
        problem_of(case), REFERENCE[name], init.Given(case["W0"]), key=KEY, lanes=2, steps=int(case["steps"][-1]),
        record=case["steps"].tolist(), keep=("logits",), dtype=dtype,
    )  # fmt: skip
    R = len(case["steps"])
    assert relative(run.logits[1].reshape(R, -1), case["logits"]) < tolerance
    if dtype == "float64":
        np.testing.assert_allclose(run.log10_grad_norm[0], case["log10_norms"][:, 0], rtol=0, atol=1e-8)


def wide(seed=0):
    return jaxsim.data.unit_sphere(jax.random.key(seed), n=3, T=4, d=6)


def test_full_coordinates_are_W_itself():
    start = init.Given(np.random.default_rng(0).standard_normal((4, 6, 6)))
    options = dict(key=KEY, lanes=4, steps=60)
    runs = [jaxsim.simulate(wide(), rules.NGD(0.1), start, coordinates=c, **options) for c in ("full", "dual")]
    np.testing.assert_allclose(runs[0].W(2), runs[1].W(2), atol=1e-11)
    np.testing.assert_allclose(runs[0].direction_error, runs[1].direction_error, rtol=1e-9)


def test_optax_is_what_optax_does():
    problem, W = wide(), jnp.zeros((6, 6))

    def loss(W):
        a = jnp.einsum("itd,de,ie->it", problem.tokens, W, problem.queries)
        return jnp.logaddexp(0.0, -(jax.nn.softmax(a, 1) * problem.scores).sum(1)).mean()

    for tx in (optax.adam(0.05), optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(0.5, momentum=0.5))):
        with jax.numpy_dtype_promotion("standard"):
            state, W = tx.init(W), jnp.zeros((6, 6))
            for _ in range(15):
                updates, state = tx.update(jax.grad(loss)(W), state)
                W = optax.apply_updates(W, updates)
        run = jaxsim.simulate(problem, rules.Optax(tx), init.Zero(), key=KEY, lanes=3, steps=15)
        np.testing.assert_allclose(run.W(1), W, atol=1e-12)
        assert run.norm[0, -1] == run.norm[2, -1]


def test_optax_with_normalised_gradients_is_ngd():
    options = dict(key=KEY, lanes=2, steps=2000)
    one = jaxsim.simulate(wide(), rules.Optax(optax.sgd(0.1), normalise=True), init.Zero(), **options)
    two = jaxsim.simulate(wide(), rules.NGD(0.1), init.Zero(), **options)
    np.testing.assert_allclose(one.final_logits, two.final_logits, rtol=1e-8, atol=1e-8)


def test_an_eps_stops_adam_and_none_does_not():
    options = dict(key=KEY, lanes=1, steps=60_000)
    exact = jaxsim.simulate(wide(), rules.Adam(0.05), init.Zero(), **options)
    stopped = jaxsim.simulate(wide(), rules.Adam(0.05, eps=1e-8), init.Zero(), **options)
    fall = exact.log10_grad_norm[0, exact.steps == 60_000] - exact.log10_grad_norm[0, exact.steps > 20_000][0]
    steps = 60_000 - exact.steps[exact.steps > 20_000][0]
    assert fall[0] / steps == pytest.approx(-0.0005 / np.log(10), rel=0.1)
    assert stopped.log10_grad_norm[0, -1] > -12 > exact.log10_grad_norm[0, -1]


def test_p_two_is_ngd():
    start = init.Given(np.random.default_rng(0).standard_normal((6, 6)))
    options = dict(key=KEY, lanes=1, steps=300)
    one = jaxsim.simulate(wide(), rules.Mirror(0.1, p=2), start, **options)
    two = jaxsim.simulate(wide(), rules.NGD(0.1), start, **options)
    np.testing.assert_allclose(one.W(0), two.W(0), atol=1e-9)


def test_newton_schulz_agrees_with_svd_early():
    start = init.Given(np.random.default_rng(0).standard_normal((6, 6)))
    options = dict(key=KEY, lanes=1, steps=10)
    one = jaxsim.simulate(wide(), rules.Spectral(0.05), start, **options)
    two = jaxsim.simulate(wide(), rules.Spectral(0.05, method="newton-schulz"), start, **options)
    np.testing.assert_allclose(one.W(0), two.W(0), atol=1e-6)


def test_the_spectral_rule_turns_with_the_data_and_sign_descent_does_not():
    problem, rng = wide(), np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.standard_normal((6, 6)))[0] for _ in range(2))
    turned = jaxsim.Problem(problem.tokens @ U.T, problem.queries @ V.T, problem.labels, U @ problem.decoder)
    W0 = rng.standard_normal((6, 6))
    difference = {}
    for rule in (rules.Spectral(0.05), rules.SignDescent(0.05)):
        one = jaxsim.simulate(problem, rule, init.Given(W0), key=KEY, lanes=1, steps=40)
        two = jaxsim.simulate(turned, rule, init.Given(U @ W0 @ V.T), key=KEY, lanes=1, steps=40)
        difference[rule.name] = np.abs(one.final_logits - two.final_logits).max()
    assert difference["spectral"] < 1e-9 and difference["sign"] > 1e-2


@pytest.mark.parametrize("name", MATRIX_RULES)
def test_bad_combinations(name):
    rule = MATRIX_RULES[name](0.1)
    with pytest.raises(ValueError, match=r"coordinates: .* runs in (full|primal) coordinates; got 'dual'"):
        jaxsim.simulate(wide(), rule, init.Zero(), key=KEY, lanes=1, steps=1, coordinates="dual")
    with pytest.raises(ValueError, match="rule: .* acts on the matrix W"):
        jaxsim.simulate(wide(), rule, init.Gaussian(1.0), key=KEY, lanes=1, steps=1, train=train.KeyQuery(2))
    with pytest.raises(ValueError, match="rule: expected one that runs in dual coordinates"):
        jaxsim.simulate_many([wide()], rule, init.Gaussian(1.0), key=KEY, lanes=1, steps=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.Mirror(0.1, p=1), "p: expected a number above 1; got 1"),
        (lambda: rules.Mirror(0.1, p=np.float32(0.5)), "p: expected a number above 1; got 0.5"),
        (lambda: rules.Adam(0.1, eps=np.float32(-1)), "eps: expected 0 or more; got -1"),
        (lambda: rules.AdaGradNorm(0.1, b0=np.float32(-1)), "b0: expected a number above 0; got -1"),
        (lambda: rules.HeavyBall(0.1, beta=np.float32(2)), "beta: expected a number from 0 to below 1; got 2"),
        (lambda: rules.Polyak(optimal_loss=np.float32("nan")), "optimal_loss: expected a finite number; got nan"),
        (lambda: rules.Adam(0.1, beta2=1), "beta2: expected a number from 0 to below 1; got 1"),
        (lambda: rules.Adam(0.1, eps=-1), "eps: expected 0 or more; got -1"),
        (lambda: rules.HeavyBall(0.1, beta=-0.5), "beta: expected a number from 0 to below 1; got -0.5"),
        (lambda: rules.Spectral(0.1, method="qr"), "method: expected 'svd' or 'newton-schulz'; got 'qr'"),
        (lambda: rules.Optax(0.1), "transformation: expected an optax transformation; got 0.1"),
        (lambda: rules.AdaGradNorm(0.1, b0=0), "b0: expected a number above 0; got 0"),
    ],
)
def test_bad_rules(make, message):
    with pytest.raises(ValueError, match=message):
        make()

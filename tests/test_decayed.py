"""Weight decay: minima by another solver, AdamW of optax, plain descent in W, and what a run says of lanes at rest."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxsim
from jaxsim import init, rules, train
from jaxsim.rules import Decayed

KEY = jax.random.key(1)
SCHEDULE = rules.schedule("cosine", init=0.5, steps=60)


def data(n=3, T=4, d=5, seed=0):
    return jaxsim.data.unit_sphere(jax.random.key(seed), n=n, T=T, d=d)


def loss(problem, W, u=None):
    """L in plain arrays."""
    u = problem.decoder if u is None else u
    attention = jax.nn.softmax(jnp.einsum("itd,de,ie->it", problem.keys, W, problem.queries), axis=1)
    return jnp.log1p(jnp.exp(-(attention * (problem.labels[:, None] * (problem.tokens @ u))).sum(1))).mean()


def descent(value, params, sizes, rate, normalised=False):
    """W ← W - η_k (∇ + λ W), of all blocks, by automatic differentiation: right where attention has not saturated."""
    slope = jax.jit(jax.grad(value))
    for eta in sizes:
        moves = slope(params)
        if normalised:
            moves = jax.tree.map(lambda x: x / jnp.linalg.norm(x), moves)
        params = jax.tree.map(lambda x, g, eta=eta: x - eta * (g + rate * x), params, moves)
    return [np.asarray(x) for x in params]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", [rules.GD(0.7), rules.NGD(SCHEDULE), rules.Nesterov(0.3), rules.Adam(0.02)], ids=repr)
def test_at_rate_0_it_is_the_rule_itself(rule, dtype):
    how = dict(key=KEY, lanes=5, steps=40, dtype=dtype, stepping="every")
    bare, same = (jaxsim.simulate(data(d=20), each, init.Gaussian(0.5), **how) for each in (rule, Decayed(rule, 0.0)))
    for name in ("final_logits", "norm", "direction_error", "outside"):
        np.testing.assert_array_equal(getattr(same, name), getattr(bare, name))
    assert set(same.report) == set(bare.report) and "start_left" not in same.settings


@pytest.mark.parametrize("rate", [0.1, 0.003])
def test_gd_ends_at_the_minimum_that_another_solver_finds(rate):
    problem = data()
    run = jaxsim.simulate(problem, Decayed(rules.GD(2.0), rate), init.Zero(), key=KEY, lanes=1, steps=int(30 / rate))
    shape = problem.W_shape

    def value(w):
        W = jnp.asarray(w).reshape(shape)
        return loss(problem, W) + rate / 2 * (W * W).sum()

    slope, bend = (jax.jit(f(value)) for f in (jax.grad, jax.hessian))
    found = scipy.optimize.minimize(
        jax.jit(value), run.W(0).ravel() + 0.1, jac=slope, hess=bend, method="trust-exact", options={"gtol": 1e-13}
    )
    assert run.converged.all() and not run.open.any()
    np.testing.assert_allclose(run.W(0).ravel(), found.x, rtol=0, atol=1e-8 * np.abs(found.x).max())
    assert np.linalg.eigvalsh(np.asarray(bend(run.W(0).ravel()))).min() > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ngd_ends_at_the_length_1_over_rate_with_the_gradient_along_w(dtype):
    rate, eps = 0.002, np.finfo(dtype).eps
    problem, by = data(), Decayed(rules.NGD(0.5), rate)
    run = jaxsim.simulate(
        problem, by, init.Gaussian(1.0), key=KEY, lanes=4, steps=60_000, dtype=dtype, keep=("coeffs",)
    )
    assert run.converged.all() and run.log10_grad_norm[:, -1].max() < -20
    np.testing.assert_allclose(run.norm[:, -1], 1 / rate, rtol={"float32": 1e-6, "float64": 1e-12}[dtype])
    for lane in range(4):
        W = run.W(lane)
        rows = np.einsum("itd,ie->itde", problem.keys, problem.queries)
        along = np.tensordot(run.coeffs[lane, -1], rows, 2)  # Σ -λ⁻¹ g x zᵀ/‖∇L‖ at rest
        np.testing.assert_allclose(along, W, atol=1000 * eps / rate)


def test_a_cycle_is_not_at_rest():
    run = jaxsim.simulate(data(), Decayed(rules.SignDescent(0.05), 0.1), init.Zero(), key=KEY, lanes=2, steps=4000)
    assert not run.converged.any() and (run.report["next_move"] > 1e-6).all()
    short = jaxsim.simulate(data(), Decayed(rules.GD(1.0), 0.1), init.Gaussian(1.0), key=KEY, lanes=2, steps=20)
    assert not short.converged.any()
    assert 0 < short.summary()["report"]["next_move"] < 1 and short.asymptote().predicted.shape == (2,)
    assert np.isnan(short.asymptote().predicted).all()


@pytest.mark.parametrize("eps", [0.0, 1e-4])
def test_adam_with_decay_is_adamw_of_optax(eps):
    problem, steps = data(), 150
    W0 = np.random.default_rng(0).normal(size=problem.W_shape)
    by = Decayed(rules.Adam(0.05, eps=eps), 0.2)
    run = jaxsim.simulate(problem, by, init.Given(W0[None]), key=KEY, lanes=1, steps=steps, dtype="float64")
    adamw = optax.adamw(0.05, eps=eps, weight_decay=0.2)

    def step(_, carry):
        W, memory = carry
        moved, memory = adamw.update(jax.grad(lambda W: loss(problem, W))(W), memory, W)
        return optax.apply_updates(W, moved), memory

    with jax.numpy_dtype_promotion("standard"):
        W, _ = jax.lax.fori_loop(0, steps, step, (jnp.asarray(W0), adamw.init(jnp.asarray(W0))))
    np.testing.assert_allclose(run.W(0), W, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("coordinates", ["dual", "primal", "full"])
@pytest.mark.parametrize("eta", [0.5, SCHEDULE], ids=["constant", "schedule"])
def test_w_by_plain_descent(eta, coordinates):
    problem, steps = data(d=9), 50
    W0 = np.random.default_rng(0).normal(size=problem.W_shape)
    sizes = [float(SCHEDULE(k)) if eta is SCHEDULE else eta for k in range(steps)]
    (W,) = descent(lambda p: loss(problem, p[0]), [jnp.asarray(W0)], sizes, 0.1)
    run = jaxsim.simulate(
        problem, Decayed(rules.GD(eta), 0.1), init.Given(W0[None]), key=KEY, lanes=1, steps=steps, dtype="float64",
        coordinates=coordinates, keep=("coeffs",),
    )  # fmt: skip
    np.testing.assert_allclose(run.W(0), W, atol=1e-7)  # schedules are of float32
    np.testing.assert_allclose(run.norm[0, -1], np.linalg.norm(W), rtol=1e-7)
    rows = np.einsum("itd,ie->itde", problem.keys, problem.queries)
    left = np.prod(1 - 0.1 * np.array(sizes))
    np.testing.assert_allclose(left * W0 + np.tensordot(run.final_coeffs[0], rows, 2), W, atol=1e-7)


def test_rows_that_depend_on_each_other_and_starts_of_which_only_the_norm_is_drawn():
    problem = data(n=6, T=4, d=4)  # 24 rows in 16 dimensions: a basis is carried
    runs = [
        jaxsim.simulate(problem, Decayed(rules.NGD(0.1), 0.05), init.Gaussian(1.0), key=KEY, lanes=3, steps=100,
                        dtype="float64", coordinates=kind)
        for kind in ("dual", "primal")
    ]  # fmt: skip
    np.testing.assert_allclose(np.sort(runs[0].norm[:, -1]).max(), runs[0].norm[:, -1].max())
    for run in runs:
        for lane in range(3):
            np.testing.assert_allclose(np.linalg.norm(run.W(lane)), run.norm[lane, -1], rtol=1e-12)
    wide = jaxsim.simulate(data(d=40), Decayed(rules.GD(0.1), 0.05), init.Gaussian(1.0), key=KEY, lanes=3, steps=100)
    far = wide.to_pandas()
    np.testing.assert_allclose(far["start_norm"], wide.norm[:, 0], rtol=1e-5)
    outside = (1 - 0.1 * 0.05) ** (2 * 100) * wide.outside
    np.testing.assert_allclose((wide.position**2).sum(1) + outside, wide.norm[:, -1] ** 2, rtol=1e-5)


def test_both_blocks_of_joint_training():
    problem, steps = data(d=7), 40
    rng = np.random.default_rng(0)
    W0, u0 = rng.normal(size=problem.W_shape), rng.normal(size=7)
    W, u = descent(lambda p: loss(problem, *p), [jnp.asarray(W0), jnp.asarray(u0)], [0.4] * steps, 0.1)
    each = rules.PerBlock(Decayed(rules.GD(0.4), 0.1), Decayed(rules.GD(0.4), 0.1))
    for by in (Decayed(rules.GD(0.4), 0.1), each):
        run = jaxsim.simulate(
            problem, by, init.Given(W0[None]), key=KEY, lanes=1, steps=steps, dtype="float64", train=train.Joint(u0)
        )
        np.testing.assert_allclose(run.W(0), W, atol=1e-12)
        np.testing.assert_allclose(run.more["decoder"][0], u, atol=1e-12)
    one = rules.PerBlock(Decayed(rules.GD(0.4), 0.1), rules.GD(0.4))
    run = jaxsim.simulate(
        problem, one, init.Given(W0[None]), key=KEY, lanes=1, steps=steps, dtype="float64", train=train.Joint(u0)
    )
    assert run.more["decoder_norm"][0, -1] > np.linalg.norm(u) and not run.converged.any()


@pytest.mark.parametrize("normalised", [False, True])
def test_both_blocks_of_keys_and_queries(normalised):
    problem, steps = data(d=15), 40
    rng = np.random.default_rng(0)
    K0, Q0 = rng.normal(size=(2, 1, 15, 3)) / 3
    params = [jnp.asarray(K0[0]), jnp.asarray(Q0[0])]
    eta = 0.1 if normalised else 0.4  # so short that attention stays where automatic differentiation is right
    K, Q = descent(lambda p: loss(problem, p[0] @ p[1].T), params, [eta] * steps, 0.1, normalised)
    by = Decayed((rules.NGD if normalised else rules.GD)(eta), 0.1)
    run = jaxsim.simulate(
        problem, by, init.Factors(K0, Q0), key=KEY, lanes=1, steps=steps, dtype="float64", train=train.KeyQuery(3)
    )
    np.testing.assert_allclose(run.more["K"][0], K, atol=1e-11)
    np.testing.assert_allclose(run.more["Q"][0], Q, atol=1e-11)
    np.testing.assert_allclose(run.norm[0, -1], np.linalg.norm(K @ Q.T), rtol=1e-11)
    imbalance = [np.linalg.norm(A.T @ A - B.T @ B) for A, B in ((K0[0], Q0[0]), (K, Q))]
    np.testing.assert_allclose(run.more["imbalance"][0, [0, -1]], imbalance, rtol=1e-11)


@settings(max_examples=5, derandomize=True, deadline=None)
@given(st.integers(0, 10**6))
def test_rotations_and_permutations_change_nothing(seed):
    rng = np.random.default_rng(seed)
    problem, by = data(), Decayed(rules.NGD(0.3), 0.02)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    order, W0 = rng.permutation(3), rng.normal(size=(5, 5))
    turned = jaxsim.Problem(
        problem.tokens[order] @ turn, problem.queries[order] @ turn, problem.labels[order], problem.decoder @ turn
    )
    runs = [
        jaxsim.simulate(each, by, init.Given(start[None]), key=KEY, lanes=1, steps=200, dtype="float64")
        for each, start in ((problem, W0), (turned, turn.T @ W0 @ turn))
    ]
    np.testing.assert_allclose(runs[1].final_logits[0], runs[0].final_logits[0][order], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(runs[1].norm, runs[0].norm, rtol=1e-11)


def test_a_sweep_over_rates_and_steps_is_what_simulate_gives():
    how = dict(key=KEY, lanes=4, steps=120, dtype="float64")
    swept = jaxsim.sweep(data(d=20), Decayed(rules.NGD([0.1, 0.3]), [0.01, 0.1]), init.Gaussian(1.0), **how)
    assert swept.axes == {"eta": (0.1, 0.3), "rate": (0.01, 0.1)}
    for eta in (0.1, 0.3):
        for rate in (0.01, 0.1):
            alone = jaxsim.simulate(data(d=20), Decayed(rules.NGD(eta), rate), init.Gaussian(1.0), **how)
            np.testing.assert_allclose(swept.at(eta=eta, rate=rate).norm, alone.norm, rtol=1e-10)
            assert swept.at(eta=eta, rate=rate).label == f"Decayed NGD {eta}, rate={rate}"
    assert len(swept.fractions().rule_rate) == 4


def test_linear_regression_decays_too():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 6)), np.array([1, -1, 1, -1])
    run = jaxsim.regress(x, y, Decayed(rules.GD(1.0), 0.05), init.Gaussian(1.0), key=KEY, lanes=2, steps=1000)

    def value(w):
        return np.log1p(np.exp(-y * (x @ w))).mean() + 0.025 * w @ w

    found = scipy.optimize.minimize(value, np.zeros(6), tol=1e-14)
    assert run.converged.all()
    np.testing.assert_allclose(run.norm[:, -1], np.linalg.norm(found.x), rtol=1e-6)


def test_many_problems_and_saved_runs(tmp_path):
    problems = [data(d=20, seed=seed) for seed in range(2)]
    how = dict(key=KEY, lanes=3, steps=50, dtype="float64")
    runs = jaxsim.simulate_many(problems, Decayed(rules.GD(0.5), 0.1), init.Gaussian(1.0), **how)
    for run in runs:
        np.testing.assert_allclose(np.linalg.norm(run.W(1)), run.norm[1, -1], rtol=1e-12)
    runs[0].save(tmp_path / "run.npz")
    again = jaxsim.Run.load(tmp_path / "run.npz")
    np.testing.assert_array_equal(again.W(1), runs[0].W(1))
    assert rules.build(again.settings["rule_data"]).rate == 0.1


def test_what_is_left_of_a_start():
    eta = rules.schedule("polynomial", init=0.5, end=0.1, power=1.0, steps=100_000)
    steps = np.array([0, 1, 7, 70_000, 150_000])
    left = Decayed(rules.GD(eta), 0.01).weight_decay(0).log_left(steps)
    sizes = 0.5 - 0.4 * np.minimum(np.arange(150_000) / 100_000, 1)
    wanted = np.concatenate([[0.0], np.log1p(-0.01 * sizes).cumsum()])[steps]
    np.testing.assert_allclose(left, wanted, rtol=1e-6)
    assert rules.NGD(0.1).weight_decay(0) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Decayed(rules.NGD, 0.1), "rule: expected a rule such as"),
        (lambda: Decayed(rules.Polyak(), 0.1), "it has no step size eta"),
        (lambda: Decayed(rules.Mirror(0.1), 0.1), "it remembers θ"),
        (lambda: Decayed(rules.PerBlock(rules.GD(0.1)), 0.1), r"PerBlock\(Decayed"),
        (lambda: Decayed(Decayed(rules.GD(0.1), 0.1), 0.1), "it has weight decay"),
        (lambda: Decayed(rules.GD(0.1), -1), "rate: expected 0 or more; got -1"),
        (lambda: Decayed(rules.GD(0.1), 10), "rate: expected less than 1/η = 10; got 10.0"),
        (lambda: Decayed(rules.GD(0.1), [0, 1]), "rate: expected numbers above 0 in a list"),
        (lambda: rules.build({"name": "decayed", "rate": 1}), "rule: expected a table of a rule"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_step_is_made_by_xla():
    how = dict(key=KEY, lanes=2, steps=3000, engine="native")
    run = jaxsim.simulate(data(), Decayed(rules.GD(0.1), 0.1), init.Zero(), **how)
    assert run.settings["engine"] == "xla" and "leaps" not in run.report


@pytest.mark.parametrize(
    ("rule", "more", "message"),
    [
        (
            Decayed(rules.GD(0.1), 0.1),
            dict(stepping="leap"),
            "decayed is stepped: weight decay brings its lanes to rest",
        ),
        (Decayed(rules.GD(optax.constant_schedule(2.0)), 0.6), {}, "rate: expected less than 1/η at every step"),
        (Decayed(rules.GD(0.1), [0.1, 0.2]), {}, "2 values of rate"),
    ],
)
def test_what_a_run_refuses(rule, more, message):
    with pytest.raises(ValueError, match=message):
        jaxsim.simulate(data(), rule, init.Zero(), key=KEY, lanes=2, steps=5000, **more)


def test_what_a_schedule_leaves_of_the_start_has_all_digits():
    def eta(step):
        return 0.3 / jnp.sqrt(1.0 + step.astype(jnp.float64))

    left = rules.Decayed(rules.NGD(eta), 0.3).weight_decay(0).log_left(np.array([60]))
    np.testing.assert_allclose(left, np.log1p(-0.09 / np.sqrt(1.0 + np.arange(60))).sum(), rtol=1e-14)


def test_a_step_size_that_is_no_step_size_is_refused():
    @rules.pytree
    class Plain(rules.NGD):
        def __post_init__(self):
            pass

    with pytest.raises(ValueError, match="rule: expected one whose eta is made by jaxsim.rules.step_size"):
        rules.Decayed(Plain(0.1), 0.1)

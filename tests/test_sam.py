"""Sharpness-aware minimisation: plain descent in W, around every kind of rule and block, leaps, and the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import DATA
from test_decayed import data, loss
from test_rules import Bowl

import jaxsim
from jaxsim import init, rules, train
from jaxsim.driver.steps import advance, begin
from jaxsim.rules import SAM

KEY = jax.random.key(1)
SCHEDULE = rules.schedule("cosine", init=0.5, steps=60)


def unit(x):
    return x / jnp.linalg.norm(x)


def polar(x):
    left, _, right = jnp.linalg.svd(x, full_matrices=False)
    return left @ right


def descent(value, params, steps, eta, rho, turned=lambda x: x, normalise=True):
    """W ← W - η turned(∇L(W + ρ ∇L/‖∇L‖)) of all blocks, by automatic differentiation: right at shallow depths."""
    slope = jax.jit(jax.grad(value))
    for k in range(steps):
        up = slope(params)
        size = float(rho(k) if callable(rho) else rho)
        far = size / (np.sqrt(sum((x * x).sum() for x in up)) if normalise else 1.0)
        moves = slope([x + far * g for x, g in zip(params, up, strict=True)])
        params = [x - eta * turned(g) for x, g in zip(params, moves, strict=True)]
    return [np.asarray(x) for x in params]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", [rules.GD(0.7), rules.NGD(SCHEDULE), rules.Polyak(), rules.Adam(0.02)], ids=repr)
def test_at_radius_0_it_is_the_rule_itself(rule, dtype):
    how = dict(key=KEY, lanes=5, steps=40, dtype=dtype, engine="xla")
    bare, same = (jaxsim.simulate(data(d=20), each, init.Gaussian(0.5), **how) for each in (rule, SAM(rule, 0.0)))
    for name in ("final_logits", "norm", "direction_error", "outside", "log10_gap"):
        np.testing.assert_array_equal(getattr(same, name), getattr(bare, name))
    assert set(same.report) == set(bare.report)


@pytest.mark.parametrize("coordinates", ["dual", "primal", "full"])
@pytest.mark.parametrize(
    ("rule", "rho", "normalise"),
    [
        (rules.GD(0.5), 0.7, True),
        (rules.NGD(0.1), 0.3, True),
        (rules.GD(0.5), 20.0, False),
        (rules.GD(0.5), SCHEDULE, True),
    ],
    ids=["gd", "ngd", "without the norm", "schedule"],
)
def test_w_by_plain_descent(rule, rho, normalise, coordinates):
    problem, steps = data(d=9), 50
    W0 = np.random.default_rng(0).normal(size=problem.W_shape)
    turned = unit if rule.name == "ngd" else lambda x: x
    (W,) = descent(lambda p: loss(problem, p[0]), [jnp.asarray(W0)], steps, rule.eta.value, rho, turned, normalise)
    run = jaxsim.simulate(
        problem, SAM(rule, rho, normalise), init.Given(W0[None]), key=KEY, lanes=1, steps=steps, dtype="float64",
        coordinates=coordinates,
    )  # fmt: skip
    np.testing.assert_allclose(run.W(0), W, atol=1e-11 if rho is not SCHEDULE else 1e-7)  # schedules are of float32
    assert np.abs(W - W0).max() > 0.05


def test_autodiff_is_wrong_at_the_depths_of_the_references():
    case = dict(np.load(DATA / "ngd_sam.npz"))
    problem = jaxsim.Problem(case["X"], case["Z"], case["y"], case["u"])
    with np.errstate(invalid="ignore"):
        (W,) = descent(lambda p: loss(problem, p[0]), [jnp.asarray(case["W0"])], 1000, 0.5, 0.5, unit)
    logits = np.einsum("itd,de,ie->it", case["X"], W, case["Z"]).ravel()
    assert not np.abs(logits - case["logits"][3]).max() < 0.1 * np.abs(case["logits"][3]).max()


def test_both_blocks_of_joint_training_are_displaced_by_their_common_norm():
    problem, steps = data(d=7), 40
    rng = np.random.default_rng(0)
    W0, u0 = rng.normal(size=problem.W_shape), rng.normal(size=7)
    how = dict(key=KEY, lanes=1, steps=steps, dtype="float64", train=train.Joint(u0))
    W, u = descent(lambda p: loss(problem, *p), [jnp.asarray(W0), jnp.asarray(u0)], steps, 0.4, 0.5)
    run = jaxsim.simulate(problem, SAM(rules.GD(0.4), 0.5), init.Given(W0[None]), **how)
    np.testing.assert_allclose(run.W(0), W, atol=1e-12)
    np.testing.assert_allclose(run.more["decoder"][0], u, atol=1e-12)
    each = [
        SAM(rules.PerBlock(rules.GD(0.4), rules.GD(0.4)), 0.5),
        rules.PerBlock(SAM(rules.GD(0.4), 0.5), rules.GD(0.4)),
    ]
    both, one = (jaxsim.simulate(problem, by, init.Given(W0[None]), **how) for by in each)
    np.testing.assert_allclose(both.W(0), W, atol=1e-12)

    def value(p):
        return loss(problem, *p)

    params = [jnp.asarray(W0), jnp.asarray(u0)]
    for _ in range(steps):
        up = jax.grad(value)(params)[0]
        moves = jax.grad(value)([params[0] + 0.5 * up / jnp.linalg.norm(up), params[1]])
        params = [x - 0.4 * g for x, g in zip(params, moves, strict=True)]
    np.testing.assert_allclose(one.W(0), params[0], atol=1e-12)


def test_both_blocks_of_keys_and_queries():
    problem, steps = data(d=15), 40
    K0, Q0 = np.random.default_rng(0).normal(size=(2, 1, 15, 3)) / 3
    K, Q = descent(lambda p: loss(problem, p[0] @ p[1].T), [jnp.asarray(K0[0]), jnp.asarray(Q0[0])], steps, 0.4, 0.3)
    run = jaxsim.simulate(
        problem, SAM(rules.GD(0.4), 0.3), init.Factors(K0, Q0), key=KEY, lanes=1, steps=steps, dtype="float64",
        train=train.KeyQuery(3),
    )  # fmt: skip
    np.testing.assert_allclose(run.more["K"][0], K, atol=1e-11)
    np.testing.assert_allclose(run.more["Q"][0], Q, atol=1e-11)


def test_heads_and_regression_and_minibatches():
    problem, how = data(d=20), dict(key=KEY, lanes=3, steps=60, dtype="float64")
    one = jaxsim.simulate(problem, SAM(rules.GD(0.5), 0.3), init.Gaussian(0.5), **how)
    heads = jaxsim.simulate(problem, SAM(rules.GD(0.5), 0.3), init.Gaussian(0.5), train=train.Heads(1), **how)
    np.testing.assert_array_equal(heads.final_logits, one.final_logits)
    batch = train.Weights(batch=1, key=jax.random.key(3))
    noisy = jaxsim.simulate(problem, SAM(rules.GD(0.5), 0.3), init.Gaussian(0.5), train=batch, **how)
    plain = jaxsim.simulate(problem, rules.GD(0.5), init.Gaussian(0.5), train=batch, **how)
    assert 1e-3 < np.abs(noisy.norm - plain.norm).max() < 1

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 6)), np.array([1.0, -1, 1, -1])
    run = jaxsim.regress(x, y, SAM(rules.GD(0.5), 0.8), init.Zero(), key=KEY, lanes=1, steps=100)
    (w,) = descent(lambda p: jnp.log1p(jnp.exp(-y * (x @ p[0]))).mean(), [jnp.zeros(6)], 100, 0.5, 0.8)
    np.testing.assert_allclose(run.norm[0, -1], np.linalg.norm(w), rtol=1e-6)


@pytest.mark.parametrize(("rule", "turned"), [(rules.Spectral(0.05), polar), (rules.SignDescent(0.02), jnp.sign)])
def test_rules_of_matrices(rule, turned):
    problem, steps = data(n=5, d=3), 30  # gradients of full rank
    W0 = np.random.default_rng(0).normal(size=problem.W_shape)
    (W,) = descent(lambda p: loss(problem, p[0]), [jnp.asarray(W0)], steps, rule.eta.value, 0.3, turned)
    run = jaxsim.simulate(
        problem, SAM(rule, 0.3), init.Given(W0[None]), key=KEY, lanes=1, steps=steps, dtype="float64"
    )  # fmt: skip
    size = {"spectral": 1e-9, "sign": 1e-12}[rule.name]
    np.testing.assert_allclose(run.W(0), W, atol=size)


@pytest.mark.parametrize("rule", [rules.HeavyBall(0.3), rules.Polyak(), rules.AdaGradNorm(1.0)], ids=repr)
def test_rules_see_gradient_and_gap_there_alone(rule):
    bowl = Bowl(jnp.array([1.0, 2.0, 4.0]), -3.0)
    by = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), rule)
    start = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2)))
    mine, other = begin(bowl, SAM(by, 0.3), start), begin(bowl, by, start)
    for k in range(20):
        gradient = bowl.gradient(other.params).blocks[0]
        there = {"x": other.params[0]["x"] + 0.3 * gradient.direction["x"] / gradient.norm}
        moves, memory = by.update(bowl.gradient((there,)), other.memory, jnp.asarray(k))
        other = type(other)(({"x": other.params[0]["x"] + moves[0]["x"]},), memory)
        mine, _ = advance(bowl, SAM(by, jnp.asarray(0.3)), mine, jnp.asarray(k))
        np.testing.assert_allclose(mine.params[0]["x"], other.params[0]["x"], rtol=1e-12)


def test_without_a_gradient_nothing_moves():
    bowl = Bowl(jnp.ones(3), 0.0)
    state = begin(bowl, SAM(rules.GD(0.1), 0.5), jnp.zeros((3, 2)))
    after, moves = advance(bowl, SAM(rules.GD(0.1), 0.5), state, jnp.asarray(0))
    assert (moves[0]["x"] == 0).all() and (after.params[0]["x"] == 0).all()


def test_weight_decay_is_of_w_itself():
    problem, steps = data(d=9), 30
    W0 = np.random.default_rng(0).normal(size=problem.W_shape)
    by = SAM(rules.Decayed(rules.GD(0.4), 0.1), 0.5)
    run = jaxsim.simulate(problem, by, init.Given(W0[None]), key=KEY, lanes=1, steps=steps, dtype="float64")
    W, slope = jnp.asarray(W0), jax.jit(jax.grad(lambda W: loss(problem, W)))
    for _ in range(steps):
        up = slope(W)
        W = 0.96 * W - 0.4 * slope(W + 0.5 * up / jnp.linalg.norm(up))
    np.testing.assert_allclose(run.W(0), W, atol=1e-12)
    np.testing.assert_allclose(run.settings["start_left"], 0.96**steps)


@pytest.mark.slow
def test_lanes_leap_under_gd():
    problem, how = data(n=4, T=4, d=20), dict(key=KEY, lanes=4, dtype="float64")
    by, law = SAM(rules.GD(1.0), 0.5), init.Gaussian(0.3)
    leapt, stepped = (jaxsim.simulate(problem, by, law, steps=30_000, stepping=s, **how) for s in ("leap", "every"))
    assert (leapt.report["leaps"] > 0).all() and (leapt.report["single_steps"] < 15_000).all()
    size = np.abs(stepped.final_logits).max()
    np.testing.assert_allclose(leapt.final_logits, stepped.final_logits, rtol=0, atol=1e-9 * size)


def test_lanes_stride_under_ngd():
    problem, how = data(n=4, T=4, d=20), dict(key=KEY, lanes=4, dtype="float64")
    by, law = SAM(rules.NGD(0.1), 0.2), init.Gaussian(0.3)
    assert by.keeps_pace and by.step_length == 0.1 and by.stepped_because is None
    leapt, stepped = (jaxsim.simulate(problem, by, law, steps=40_000, stepping=s, **how) for s in ("leap", "every"))
    assert (leapt.report["leaps"] > 0).any()
    size = np.abs(stepped.final_logits).max()
    np.testing.assert_allclose(leapt.final_logits, stepped.final_logits, rtol=0, atol=1e-9 * size)


def test_limits_are_those_of_the_problem():
    problem, how = data(n=4, T=5, d=8), dict(key=KEY, lanes=16, steps=2_000)
    bare, sam = (
        jaxsim.simulate(problem, by, init.Gaussian(1.0), **how) for by in (rules.NGD(0.1), SAM(rules.NGD(0.1), 0.3))
    )
    for k, selection in enumerate(sam.selections):
        known = (bare.selections == selection).all(1)
        assert not known.any() or sam.limit_norm[k] == bare.limit_norm[known][0]
    assert np.median(sam.direction_error[:, -1]) < 0.1


def test_a_sweep_is_what_simulate_gives():
    how = dict(key=KEY, lanes=4, steps=120, dtype="float64")
    swept = jaxsim.sweep(data(d=20), SAM(rules.NGD([0.1, 0.3]), [0.01, 0.1]), init.Gaussian(1.0), **how)
    assert swept.axes == {"eta": (0.1, 0.3), "rho": (0.01, 0.1)}
    for eta in (0.1, 0.3):
        for rho in (0.01, 0.1):
            alone = jaxsim.simulate(data(d=20), SAM(rules.NGD(eta), rho), init.Gaussian(1.0), **how)
            np.testing.assert_allclose(swept.at(eta=eta, rho=rho).norm, alone.norm, rtol=1e-10)
            assert swept.at(eta=eta, rho=rho).label == f"SAM NGD {eta}, rho={rho}"


def test_every_step_is_made_by_xla():
    run = jaxsim.simulate(data(), SAM(rules.GD(0.1), 0.1), init.Zero(), key=KEY, lanes=2, steps=50, engine="native")
    assert run.settings["engine"] == "xla"


@rules.pytree
class ExtraGradient(rules.GD):
    """W ← W - η ∇L(W - η ∇L(W)): the contract is not made for SAM alone."""

    name = "extra-gradient"
    native = None

    def displacement(self, gradient, state, step):
        return self.update(gradient, state, step)[0]


def test_a_rule_of_ones_own_looks_ahead():
    problem = data(d=9)
    W0 = np.random.default_rng(0).normal(size=problem.W_shape)
    (W,) = descent(lambda p: loss(problem, p[0]), [jnp.asarray(W0)], 30, 0.5, -0.5, normalise=False)
    run = jaxsim.simulate(
        problem, ExtraGradient(0.5), init.Given(W0[None]), key=KEY, lanes=1, steps=30, dtype="float64"
    )
    np.testing.assert_allclose(run.W(0), W, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SAM(rules.NGD, 0.1), "rule: expected a rule such as"),
        (lambda: SAM(rules.GD(0.1), -1), "rho: expected 0 or more; got -1"),
        (lambda: SAM(rules.GD(0.1), [0, 1]), "rho: expected numbers above 0 in a list"),
        (lambda: SAM(rules.GD(0.1), 0.1, normalise=1), "normalise: expected True or False; got 1"),
        (lambda: rules.Decayed(SAM(rules.GD(0.1), 0.1), 0.1), r"got SAM\(.*: SAM\(Decayed"),
        (lambda: rules.build({"name": "sam", "rho": 1}), "rule: expected a table of a rule"),
        (lambda: rules.build({"name": "sam", "rule": {"name": "gd", "eta": 1}}), "missing a required argument: 'rho'"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("rule", "more", "message"),
    [
        (SAM(rules.HeavyBall(0.1), 0.1), dict(stepping="leap"), "sam is stepped: what it remembers changes within"),
        (SAM(rules.NGD(0.1), SCHEDULE), dict(stepping="leap"), "sam is stepped: its gradient is taken as far away as"),
        (SAM(rules.GD(0.1), [0.1, 0.2]), {}, "2 values of rho"),
        (SAM(SAM(rules.GD(0.1), 0.1), 0.1), {}, r"rule: expected one whose gradient is taken at W; got SAM\("),
    ],
)
def test_what_a_run_refuses(rule, more, message):
    with pytest.raises(ValueError, match=message):
        jaxsim.simulate(data(), rule, init.Zero(), key=KEY, lanes=2, steps=5000, **more)


def test_a_study_and_the_command_line(tmp_path):
    from jaxsim.cli.options import named_rule
    from jaxsim.study.choices import build_rule

    assert repr(named_rule("ngd=0.5,rho=0.1", 10.0)) == "SAM(rule=NGD(eta=0.5), rho=0.1, normalise=True)"
    both = named_rule("gd=1,rho=0.2,rate=0.01", 10.0)
    assert repr(both.rule) == "Decayed(rule=GD(eta=1), rate=0.01)" and both.rho.value == 0.2
    assert named_rule("polyak=1,rho=1", 5.0).rule.max_step.value == 5
    file = tmp_path / "study.toml"
    file.write_text(
        'steps = 30\nshard = 4\n[[problem]]\nfamily = "unit-sphere"\nn = 3\nT = 4\nd = 5\n'
        '[[init]]\nlaw = "zero"\n[[rule]]\n'
        'name = "sam"\nrule = {name = "gd", eta = 1}\nrho = [0.5, {schedule = "cosine", init = 0.5, steps = 60}]\n'
        "[stop]\nlanes = 4\n"
    )
    study = jaxsim.study.load(file)
    assert [repr(build_rule(choice)) for choice in study.rules] == [
        "SAM(rule=GD(eta=1), rho=0.5, normalise=True)",
        "SAM(rule=GD(eta=1), rho=cosine(init=0.5, steps=60), normalise=True)",
    ]

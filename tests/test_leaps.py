"""Leaps in time, held against stepping, against closed forms, and against what is said of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from single_steps import FAMILIES, by_steps

import jaxsim
from jaxsim import init, rules, train
from jaxsim.coordinates import as_device
from jaxsim.driver import leap
from jaxsim.driver.interpolant import weights

KEY = jax.random.key(1)
LEAPS_FROM = 2_000  # of rules whose steps shrink with the gradient
data = jaxsim.data


CASES = {
    "gd": (rules.GD(1.0), train.Weights()),
    "adagrad-norm": (rules.AdaGradNorm(1.0), train.Weights()),
    "joint": (rules.GD(0.5), train.Joint()),
    "key-query": (rules.GD(0.5), train.KeyQuery(3)),
    "heads": (rules.GD(0.5), train.Heads(2)),
}


def work_of(problem, rule, trained, lanes, steps, **options):
    how = jaxsim.simulation.options.Options(steps, **options)
    return jaxsim.simulation.work.prepare(problem, rule, init.Gaussian(0.3), how, key=KEY, lanes=lanes, train=trained)


def followed(case, family, lanes, steps):
    """Logits after leaps, after steps, and the bound, lanes first."""
    rule, trained = CASES[case]
    work = work_of(FAMILIES[family](jax.random.key(5)), rule, trained, lanes, steps, record=())
    run = work.run()
    (start,) = work.starts()
    vectors = jnp.asarray(start.vectors).reshape(-1, start.vectors.shape[-1])[:lanes].T
    exact = work.model.logits(by_steps(work.model, as_device(rule, np.float64), vectors, steps))
    return run, np.moveaxis(np.asarray(exact), -1, 0)


def within_the_bound(case, family, lanes, steps):
    run, exact = followed(case, family, lanes, steps)
    exact = exact - exact.mean(-1, keepdims=True)
    found = run.final_logits - run.final_logits.mean(-1, keepdims=True)
    error = np.abs(found - exact).max((1, 2)) / np.abs(exact).max((1, 2))
    assert (run.report["leaps"] > 0).all() and (run.report["single_steps"] < steps / 4).all()
    assert (error < 1e-9).all() and (error <= run.report["leap_error"]).all()


@pytest.mark.parametrize("case", CASES)
def test_leaps_end_where_steps_end_within_their_bound(case):
    within_the_bound(case, "unit-sphere", 4, 10**5)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", CASES)
def test_a_million_steps(case, family):
    within_the_bound(case, family, 8, 10**6)


@pytest.mark.slow
def test_ten_million_steps():
    within_the_bound("gd", "signal-noise", 8, 10**7)


def test_the_whole_run_is_that_of_single_steps():
    how = dict(key=KEY, lanes=16, steps=30_000)
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    far = jaxsim.simulate(problem, rules.GD(1.0), init.Gaussian(0.3), **how)
    near = jaxsim.simulate(problem, rules.GD(1.0), init.Gaussian(0.3), **how, stepping="every")
    assert np.array_equal(far.steps, near.steps) and np.array_equal(far.verdict, near.verdict)
    early = far.steps <= LEAPS_FROM
    assert np.array_equal(far.direction_error[:, early], near.direction_error[:, early])
    for name in ("direction_error", "norm", "log10_grad_norm", "log10_gap", "log10_attention_gap"):
        np.testing.assert_allclose(getattr(far, name), getattr(near, name), rtol=1e-10)
    assert "leaps" in far.report and "leaps" not in near.report
    assert (far.report["leapt_from"] >= LEAPS_FROM).all()


def test_regress_leaps():
    x, y = np.array([[1.0, 0.2], [-0.3, 1.0], [-1.0, 0.4]]), [1, 1, -1]
    how = dict(key=KEY, lanes=4, steps=10**5)
    far = jaxsim.regress(x, y, rules.GD(0.5), init.Gaussian(1.0), **how)
    near = jaxsim.regress(x, y, rules.GD(0.5), init.Gaussian(1.0), **how, stepping="every")
    np.testing.assert_allclose(far.direction_error, near.direction_error, rtol=1e-9)
    assert (far.report["leaps"] > 0).all()


@pytest.mark.slow
def test_many_problems_leap_each_by_itself():
    problems = [data.unit_sphere(jax.random.key(s), n=3, T=4, d=5) for s in range(3)]
    how = dict(key=KEY, lanes=4, steps=10**6, record=[10**5])
    runs = jaxsim.simulate_many(problems, rules.GD(1.0), init.Gaussian(0.3), **how)
    stepped = jaxsim.simulate_many(problems, rules.GD(1.0), init.Gaussian(0.3), **how, stepping="every")
    for far, near in zip(runs, stepped, strict=True):
        np.testing.assert_allclose(far.direction_error, near.direction_error, rtol=1e-9)


def test_float32_leaps():
    how = dict(key=KEY, lanes=16, steps=10**5, record=(), dtype="float32")
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    far = jaxsim.simulate(problem, rules.GD(1.0), init.Gaussian(0.3), **how)
    near = jaxsim.simulate(problem, rules.GD(1.0), init.Gaussian(0.3), **how, stepping="every")
    np.testing.assert_allclose(far.direction_error, near.direction_error, rtol=2e-5)
    assert np.array_equal(far.verdict, near.verdict) and (far.report["leaps"] > 0).all()


def lone(gap=1.0):
    """n = 1, T = 2: the difference a of the two logits follows a ← a + η Kσ(a)σ(-a)δ, with the linear loss."""
    tokens, queries = np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.array([[1.0, 0.0]])
    return jaxsim.Problem(tokens, queries, np.array([1.0]), np.array([gap, 0.0]))


def test_one_sequence_of_two_tokens_in_closed_form():
    # a grows by h = 2η σ(a)σ(-a) per step: dk/da = (2 + 2 cosh a)/(2η) + …, so that k ≈ e^a/(2η) and a ≈ log(2ηk).
    # The corrections are of order log k / k and far below rounding at these horizons.
    marks = [10**20, 10**100, 10**300 - 1]
    run = jaxsim.simulate(
        lone(), rules.GD(1.0), init.Zero(), key=KEY, lanes=1, steps=1e300, record=[1e20, 1e100], loss="linear",
        keep="logits",
    )  # fmt: skip
    a = run.logits[0, :, 0, 0] - run.logits[0, :, 0, 1]
    np.testing.assert_allclose(a, np.log(2.0) + np.log([float(k) for k in marks]), rtol=1e-10)
    assert run.steps.dtype == float and run.steps[-1] == 1e300


@pytest.mark.promise
def test_lanes_do_not_depend_on_their_company_or_the_chunk():
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    how = dict(key=KEY, steps=10**6)
    whole = jaxsim.simulate(problem, rules.GD(1.0), init.Gaussian(2.0), lanes=256, **how)
    parts = jaxsim.simulate(problem, rules.GD(1.0), init.Gaussian(2.0), lanes=256, **how, chunk_lanes=64)
    for name in ("direction_error", "norm", "final_logits"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    later = jaxsim.simulate(problem, rules.GD(1.0), init.Gaussian(2.0), lanes=251, first=5, **how)
    assert np.array_equal(whole.final_logits[5:], later.final_logits)
    assert all(np.array_equal(whole.report[k], parts.report[k], equal_nan=True) for k in whole.report)


@pytest.mark.parametrize("engine", ["xla", "native"])
def test_a_lane_that_fails_does_not_touch_the_others(engine):
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    W = np.random.default_rng(0).normal(size=(6, 8, 8))
    bad = W.copy()
    bad[2] = 1e200
    how = dict(key=KEY, lanes=6, steps=10**5, engine=engine)
    sound = jaxsim.simulate(problem, rules.GD(1.0), init.Given(W), **how)
    mixed = jaxsim.simulate(problem, rules.GD(1.0), init.Given(bad), **how)
    others = np.arange(6) != 2
    assert mixed.verdict[2] == "nonfinite"
    assert np.array_equal(sound.final_logits[others], mixed.final_logits[others])


@pytest.mark.parametrize("length", [16.0, 300.0, 900.0])
def test_sums_of_increments_on_a_polynomial(length):
    """Increments (log(κ/s))^p / κ sum to what they sum to up to p = 7, of eight; from there on what is off is told."""
    made, ago = 1e4, np.array([700.0, 150.0, 2900.0, 40.0, 1500.0, 320.0])
    by = [np.asarray(x)[..., 0] for x in weights(jnp.asarray(ago)[:, None], *(jnp.array([x]) for x in (made, length)))]
    at, scale = np.append(made, made - ago), min(4 * ago.max(), made)

    def increment(power, step):
        from_start = (step - made + scale) / scale  # e^θ
        return np.log(from_start) ** power / (scale * from_start)

    for power in range(10):
        known, truth = increment(power, at), increment(power, made + np.arange(length)).sum()
        surprise = increment(power, made + length) - by[1] @ known
        off = abs(by[0] @ known + by[2] * surprise - truth)
        assert off <= 1e-9 * np.abs(by[0] * known).sum() + (abs(by[3] * surprise) if power > 7 else 0.0)
        if power <= 6:  # seven are known
            assert abs(surprise) <= 1e-13 * np.abs(by[1] * known).sum()


def test_a_lane_at_a_minimum_leaps_no_further():
    """Keys on a line, the best token in the middle: L has a minimum at a finite W, to which increments die out fast."""
    keys = np.array([-1.0, 0.0, 1.0])[None, :, None] * np.array([1.4, 0.8, 1.9, 0.6, 1.1, 1.3]).reshape(2, 3, 1)
    tokens = np.array([0.0, 2.0, 0.3])[None, :, None] * np.array([1.0, -1.0])[:, None, None]
    problem = jaxsim.Problem(tokens, np.array([[1.2], [0.7]]), [1, -1], [1.0], keys=keys)
    run = jaxsim.simulate(problem, rules.GD(0.01), init.Gaussian(1.0), key=KEY, lanes=16, steps=10**12)
    assert run.converged.all() and (run.report["leaps"] > 0).all() and (run.report["leaps"] < 5000).all()


def test_records_that_lie_close_together_are_come_to():
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    record = [10**20, 10**20 + 10**5]  # neighbours of rounding: 16,384 steps apart are the numbers there
    how = dict(key=KEY, lanes=4, steps=10**21)
    close = jaxsim.simulate(problem, rules.GD(1.0), init.Gaussian(0.3), **how, record=record)
    whole = jaxsim.simulate(problem, rules.GD(1.0), init.Gaussian(0.3), **how, record=record[:1])
    np.testing.assert_allclose(close.direction_error[:, [0, -1]], whole.direction_error[:, [0, -1]], rtol=1e-8)
    assert (close.report["leaps"] < whole.report["leaps"] + 500).all()


def test_no_short_cycle_looks_like_rest():
    """A step too long for its minimum, where the loss has curvature 2/9: iterates alternate between two points."""
    x, y = np.ones((3, 1)), [1, -1, 1]
    how = dict(key=KEY, lanes=4, steps=20_000)
    run = jaxsim.regress(x, y, rules.GD(9.5), init.Gaussian(1.0), **how)
    near = jaxsim.regress(x, y, rules.GD(9.5), init.Gaussian(1.0), **how, stepping="every")
    assert (run.report["leaps"] == 0).all() and (run.report["leaps_refused"] > 0).all()
    np.testing.assert_allclose(run.norm, near.norm, rtol=1e-12)


@pytest.mark.slow
def test_lanes_that_leave_selections_are_followed_through_it():
    """In every lane in which single steps themselves forget a change of η by 4e-13; the others amplify anything."""
    problem = data.digits((3, 8), 20, True)
    how = dict(key=jax.random.key(0), lanes=16, limits="none", record=np.geomspace(2000, 10**5, 120).astype(int))
    far, near, shadow = (
        jaxsim.simulate(problem, rules.GD(eta), init.Gaussian(3.0), steps=10**5, stepping=stepping, **how)
        for eta, stepping in ((1000.0, "auto"), (1000.0, "every"), (1000.0 * (1 + 4e-13), "every"))
    )

    def apart(a, b):
        return np.abs(a.log10_attention_gap - b.log10_attention_gap).max(1)

    forgets = apart(near, shadow) < 1e-6
    moved = np.ptp(near.log10_attention_gap, axis=1) > 2.0
    assert forgets.sum() >= 12 and (moved & forgets).any()
    assert (apart(far, near)[forgets] < 1e-7).all()
    assert np.array_equal(far.selection[forgets], near.selection[forgets])


@pytest.mark.parametrize("depth", [1e12, 1e50, 1e200])
def test_a_lane_leaves_a_selection_when_the_closed_form_says(depth):
    """n = 1, T = 3, orthonormal tokens, linear loss: u = a_B - a_A of the flow has e^u - e^-u + 2u = 2ηt + constant.

    The lane is on A, with the better token B at u = -log(depth) and the worst one out of sight; it leaves at u = 0.
    """
    eta, u = 0.05, -np.log(depth)
    problem = jaxsim.Problem(
        tokens=np.eye(3)[None], queries=np.eye(3)[:1], labels=np.ones(1), decoder=np.array([0.0, 1.0, -1.0])
    )
    W0 = np.zeros((3, 3))
    W0[:, 0] = 0.0, u, u - 60.0
    leaves = (depth - 1 / depth - 2 * u) / (2 * eta)
    record = [int(leaves * share) for share in (0.5, 0.999, 1 - 1e-8, 1 + 1e-8)]
    run = jaxsim.simulate(
        problem, rules.GD(eta), init.Given(W0), key=KEY, lanes=1, steps=record[-1], record=record, loss="linear",
        keep=("logits",),
    )  # fmt: skip
    found = np.diff(run.logits[0, :, 0])[:, 0]
    off = np.abs(np.exp(-found[:2] - np.log(depth)) - [0.5, 1e-3]).max()
    assert off < 1e-8
    assert off < 0.5 * run.report["leap_error"] * abs(u)  # a share of 1/2 moves by half of what u moves by
    assert found[2] < -8 and found[3] > 8 and run.verdict == "global" and run.report["single_steps"] < 10_000


@pytest.mark.parametrize(
    "rule", [rules.GD(1.0), pytest.param(rules.AdaGradNorm(1.0), marks=pytest.mark.slow)], ids=lambda rule: rule.name
)
def test_the_norm_grows_like_the_logarithm_of_the_step(rule):
    assert rule.predicts == "inverse-log"
    problem = FAMILIES["signal-noise"](jax.random.key(5))
    run = jaxsim.simulate(problem, rule, init.Gaussian(0.3), key=KEY, lanes=4, steps=1e200, record=[1e100])
    growth = np.diff(run.asymptote().along[:, -2:])[:, 0] / np.log(1e100)
    np.testing.assert_allclose(growth, run.limit_norm[run.selection_number], rtol=1e-3)


def test_steps_to_an_error():
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    run = jaxsim.simulate(problem, rules.GD(1.0), init.Gaussian(0.3), key=KEY, lanes=8, steps=10**9)
    found = run.steps_to(0.3)
    assert np.array_equal(np.isnan(found), run.direction_error[:, -1] > 0.3) and not np.isnan(found).all()
    for lane in np.flatnonzero(~np.isnan(found)):
        after, before = run.steps > found[lane] * 1.001, run.steps < found[lane] * 0.999
        assert (run.direction_error[lane, after] <= 0.3).all() and run.direction_error[lane, before][-1] > 0.3
    assert np.isnan(run.steps_to(1e-9)).all()
    with pytest.raises(ValueError, match="error: expected a number above 0"):
        run.steps_to(0)


def test_what_is_saved_and_tabled_takes_any_horizon(tmp_path):
    run = jaxsim.simulate(
        FAMILIES["unit-sphere"](jax.random.key(5)), rules.GD(1.0), init.Gaussian(0.3), key=KEY, lanes=8, steps=1e20
    )
    run.save(tmp_path / "run.npz")
    again = jaxsim.Run.load(tmp_path / "run.npz")
    assert np.array_equal(again.steps, run.steps) and again.steps[-1] == 1e20 and again.log10_steps[-1] == 20
    assert again.to_pandas().leaps.tolist() == run.report["leaps"].tolist()
    assert run.summary()["report"]["leap_error"] == run.report["leap_error"].max()
    counted = jaxsim.survey(run.problem, rules.GD(1.0), init.Gaussian(0.3), key=KEY, lanes=8, steps=10**20)
    assert counted.report["leap_error"] == run.report["leap_error"].max()


REFUSED = [
    (dict(steps=1.5), "steps: expected a whole number; got 1.5"),
    (dict(steps=1e-3), "steps: expected a whole number; got 0.001"),
    (dict(steps=-5), "steps: expected at least 1; got -5"),
    (dict(steps=float("nan")), "steps: expected a whole number; got nan"),
    (dict(steps=float("inf")), "steps: expected a whole number; got inf"),
    (dict(steps=10**400), r"steps: expected at most 1e\+300"),
    (dict(steps=10**400, stepping="every"), "steps: expected at most 2147483647"),
    (dict(steps=10**31, dtype="float32"), r"steps: expected at most 1e\+30"),
    (dict(steps=10**15, rule=rules.Polyak()), "steps: expected at most 2147483647, because polyak is stepped"),
    (dict(steps=10**15, rule=rules.NGD(lambda k: 0.1)), "because ngd is stepped: the length of its steps is its sched"),
    (dict(steps=10**15, rule=rules.NGD(0.1), train=train.KeyQuery(2), start=init.Gaussian(1.0)), "K and Q turn about"),
    (
        dict(steps=10**15, rule=rules.PerBlock(rules.NGD(0.1), rules.GD(0.1)), train=train.Joint()),
        "per-block is stepped: increments of some of its blocks tend to zero",
    ),
    (dict(steps=10, rule=rules.Polyak(), stepping="leap"), "stepping: expected 'auto' or 'every', because polyak is"),
    (dict(steps=10, rule=rules.HeavyBall(0.1), stepping="leap"), "what it remembers changes within a few steps"),
    (dict(steps=10, rule=rules.SignDescent(0.1), stepping="leap"), "it does not say that its increments come to"),
    (dict(steps=10, train=train.Weights(2, KEY), stepping="leap"), "minibatches are stepped: each step sees other"),
    (dict(steps=10, rule=rules.GD(lambda k: jnp.ones(100)[k]), stepping="leap"), "not a function of real step numbers"),
    (dict(steps=10, rule=rules.GD(lambda k: 1.0 + k % 2), stepping="leap"), "not a function of real step numbers"),
    (dict(steps=10, stepping="fast"), "stepping: expected one of auto, every, leap; got 'fast'"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "said"), REFUSED, ids=[str(k) for k in range(len(REFUSED))])
def test_what_cannot_leap_is_refused_with_the_reason(problem, how, said):
    rule = how.get("rule", rules.GD(1.0))
    rest = {name: value for name, value in how.items() if name not in ("rule", "start")}
    with pytest.raises(ValueError, match=said):
        jaxsim.simulate(problem, rule, how.get("start", init.Zero()), key=KEY, lanes=2, **rest)


def test_a_schedule_of_real_steps_leaps():
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    how = dict(key=KEY, lanes=4, steps=10**5, record=())
    rule = rules.GD(lambda k: (jnp.asarray(k, float) + 1.0) ** -0.25)
    far = jaxsim.simulate(problem, rule, init.Gaussian(0.3), **how)
    near = jaxsim.simulate(problem, rule, init.Gaussian(0.3), **how, stepping="every")
    assert (far.report["leaps"] > 0).all()
    np.testing.assert_allclose(far.direction_error, near.direction_error, rtol=1e-9)


@pytest.mark.slow
def test_a_lane_that_is_fast_for_too_long_goes_no_further_and_says_where(monkeypatch):
    jax.clear_caches()
    monkeypatch.setattr(leap, "LONGEST", 1000)
    monkeypatch.setattr(leap, "TOLERANCE", {64: 0.0, 32: 0.0})  # nothing is slow enough
    how = dict(key=KEY, lanes=4, steps=10**7, record=[10**6])
    run = jaxsim.simulate(FAMILIES["unit-sphere"](jax.random.key(5)), rules.GD(1.0), init.Gaussian(0.3), **how)
    jax.clear_caches()
    assert (run.report["stuck_at"] < 4000).all() and (run.report["leaps"] == 0).all()
    assert (run.verdict == "unresolved").all() and run.summary()["report"]["stuck_at"] == 4
    assert np.array_equal(run.norm[:, -2], run.norm[:, -1])

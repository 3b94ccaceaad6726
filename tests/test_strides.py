"""Strides of lanes that keep their pace, held against single steps, and against what is known of their end."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from single_steps import FAMILIES, by_steps

import jaxsim
from jaxsim import init, rules, train
from jaxsim.coordinates import as_device
from jaxsim.driver import leaps_from, stride
from jaxsim.simulation.options import Options
from jaxsim.simulation.work import prepare

KEY, WEIGHTS = jax.random.key(1), train.Weights()
data = jaxsim.data
DATA = Path(__file__).parent / "data"


def held_to_steps(problem, rule, lanes, steps, scale=0.3, trained=WEIGHTS):
    """The run in strides, and the same by single steps."""
    how = Options(steps, record=(), stepping="leap")
    work = prepare(problem, rule, init.Gaussian(scale), how, key=KEY, lanes=lanes, train=trained)
    far, (start,) = work.run(), work.starts()
    vectors = jnp.asarray(start.vectors).reshape(-1, start.vectors.shape[-1])[:lanes].T
    params = by_steps(work.model, as_device(rule, np.float64), vectors, steps)
    lanes_first = [
        jax.tree.map(lambda x: np.moveaxis(np.asarray(x), -1, 0), part)
        for part in (work.model.observe(params), work.model.logits(params))
    ]
    records = jax.tree.map(lambda x: x[:, None], lanes_first[0])
    return far, work.result(work.held(start.known.of(slice(0, lanes)), (records, lanes_first[1], {})))


def off(far, near):
    """How far logits are from those of single steps, relative to the largest; and the direction errors, to theirs."""
    a, b = (run.final_logits - run.final_logits.mean(-1, keepdims=True) for run in (far, near))
    of_logits = np.abs(a - b).max((1, 2)) / np.abs(b).max((1, 2))
    return of_logits, np.abs(far.direction_error[:, -1] / near.direction_error[:, -1] - 1)


def check(far, near, steps):
    of_logits, of_direction = off(far, near)
    assert (far.report["leaps"] > 0).all() and (far.report["single_steps"] < 0.8 * steps).all()
    assert (of_logits <= far.report["leap_error"]).all() and (far.report["leap_error"] < 1e-9).all()
    assert (of_direction < 1e-8).all()
    assert np.array_equal(far.verdict, near.verdict) and np.array_equal(far.selection, near.selection)


def test_strides_end_where_steps_end_within_their_bound():
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    check(*held_to_steps(problem, rules.NGD(0.1), 4, 10**5), 10**5)


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.1, 0.01])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_million_steps(family, eta):
    check(*held_to_steps(FAMILIES[family](jax.random.key(5)), rules.NGD(eta), 8, 10**6), 10**6)


@pytest.mark.slow
def test_a_million_steps_of_joint_training():
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    check(*held_to_steps(problem, rules.NGD(0.1), 8, 10**6, trained=train.Joint()), 10**6)


@pytest.mark.slow
def test_lanes_that_go_round_a_cycle():
    """On these digits steps of 0.5 swing between two increments; the mean of a window does not."""
    far, near = held_to_steps(data.digits((3, 8), 20, True), rules.NGD(0.5), 8, 10**6, 3.0)
    check(far, near, 10**6)


def test_the_law_of_one_over_t_at_a_horizon_that_nobody_steps_to():
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    run = jaxsim.simulate(problem, rules.NGD(0.1), init.Gaussian(0.3), key=KEY, lanes=8, steps=10**12)
    assert (run.verdict == "global").all() and (run.report["leaps"] > 3).all()
    assert (run.report["single_steps"] < 2e5).all() and (run.report["leap_error"] < 1e-4).all()
    # W = u W_mm/‖W_mm‖ + r with r constant: error · norm is ‖r across W_mm‖ from where the lane has settled, up to what
    # rounding leaves of it at such a norm.
    across, far = run.direction_error * run.norm, run.steps >= 10**5
    moved = np.abs(across[:, far] / across[:, far][:, :1] - 1).max(0)
    assert (moved < 1e-6 + 1e-16 * run.norm.max(0)[far]).all()
    np.testing.assert_allclose(run.norm[:, -1], 0.1 * 1e12, rtol=1e-9)


@pytest.mark.slow
def test_fifty_published_runs_followed_to_the_end():
    """Of arXiv 2308.16898: five of the selections published at step 2,000 are left, and no other to step 10^12."""
    with np.load(DATA / "published_local_converge.npz") as saved:
        given = {name: saved[name] for name in ("X", "Z", "y", "u", "W0", "eta", "published_selection")}
    problems = [jaxsim.Problem(*(given[name][r] for name in ("X", "Z", "y", "u"))) for r in range(50)]
    runs = jaxsim.simulate_many(
        problems, rules.NGD(float(given["eta"])), [init.Given(W) for W in given["W0"]], key=KEY, lanes=1, steps=10**12,
        record=(),
    )  # fmt: skip
    left = [r for r in range(50) if not np.array_equal(runs[r].selection[0], given["published_selection"][r])]
    assert left == [2, 19, 22, 37, 39]
    assert [runs[r].verdict[0] for r in left] == ["global", "global", "global", "local", "global"]
    assert all(run.verdict[0] in ("global", "local") and run.direction_error[0, -1] < 1e-7 for run in runs)
    assert all(run.report["leap_error"][0] < 1e-3 for run in runs)


@pytest.mark.slow
def test_what_verdicts_under_ngd_promise():
    """Of the main job's first 256 starts: settled verdicts at step 2,000 stand at 10^12, and transient lanes leave."""
    problem = data.digits((3, 8), 20, True)
    how = dict(key=jax.random.key(0), lanes=256, record=(), limits="saturated")
    early, late = (
        jaxsim.simulate(problem, rules.NGD(0.5), init.Gaussian(3.0), steps=steps, **how) for steps in (2_000, 10**12)
    )
    moved = (early.selection != late.selection).any(1)
    assert not moved[np.isin(early.verdict, ("global", "local"))].any()
    assert moved[early.verdict == "transient"].all() and (early.verdict == "transient").any()
    assert set(late.verdict) == {"global", "local"}


def returning(depth):
    """n = 1, T = 3, orthonormal tokens: a lane on token A, above B, the better one, by `depth`, and far above C."""
    problem = jaxsim.Problem(
        tokens=np.eye(3)[None], queries=np.eye(3)[:1], labels=np.ones(1), decoder=np.array([0.0, 1.0, -1.0])
    )
    W0 = np.zeros((3, 3))
    W0[:, 0] = 0.0, -depth, -4.0 * depth
    return problem, init.Given(W0)


def test_a_token_that_comes_back_is_not_strode_over():
    """The gap of A and B closes by η √2 a step, so the lane leaves A when the closed form says, a few steps on."""
    eta, depth = 0.01, 3e4
    problem, start = returning(depth)
    leaves = depth / (eta * np.sqrt(2))
    record = [int(leaves - 200), int(leaves + 200)]
    run = jaxsim.simulate(
        problem, rules.NGD(eta), start, key=KEY, lanes=1, steps=10**9, record=record, loss="linear", keep="logits"
    )
    ahead = run.logits[0, :, 0, 1] - run.logits[0, :, 0, 0]
    np.testing.assert_allclose(ahead[:2], eta * np.sqrt(2) * (np.array(record) - leaves), atol=1e-6)
    assert run.verdict == "global" and run.report["leaps_refused"] > 0 and run.report["leap_error"] < 1e-6


def test_short_horizons_are_stepped_unless_leaps_are_asked_for():
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    how = dict(key=KEY, lanes=2, steps=50_000)
    auto, leap = (
        jaxsim.simulate(problem, rules.NGD(0.1), init.Gaussian(0.3), **how, stepping=stepping)
        for stepping in ("auto", "leap")
    )
    assert "leaps" not in auto.report and (leap.report["leapt_from"] >= leaps_from(rules.NGD(0.1))).all()
    early = leap.steps <= leaps_from(rules.NGD(0.1))
    assert np.array_equal(leap.direction_error[:, early], auto.direction_error[:, early])


def test_float32_stops_where_rounding_turns_the_weights():
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    how = dict(key=KEY, lanes=4, steps=2**31, record=(), dtype="float32")
    run = jaxsim.simulate(problem, rules.NGD(0.1), init.Gaussian(0.3), **how)
    assert ((10**6 < run.report["stuck_at"]) & (run.report["stuck_at"] < 10**9)).all()
    assert (run.report["single_steps"] < 10**5).all() and (run.verdict == "unresolved").all()


@pytest.mark.promise
def test_lanes_do_not_depend_on_their_company():
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    how = dict(key=KEY, steps=10**7, record=())
    whole = jaxsim.simulate(problem, rules.NGD(0.1), init.Gaussian(2.0), lanes=64, **how)
    parts = jaxsim.simulate(problem, rules.NGD(0.1), init.Gaussian(2.0), lanes=64, **how, chunk_lanes=16)
    for name in ("final_logits", "direction_error", "verdict"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    for name, value in whole.report.items():
        assert np.array_equal(value, parts.report[name], equal_nan=True)


def test_lanes_that_never_settle_go_no_further_and_say_where(monkeypatch):
    jax.clear_caches()
    monkeypatch.setattr(stride, "LONGEST", 3000)
    monkeypatch.setattr(stride, "NOISE", 0.0)  # nothing is settled enough
    problem = FAMILIES["unit-sphere"](jax.random.key(5))
    run = jaxsim.simulate(problem, rules.NGD(0.01), init.Gaussian(0.3), key=KEY, lanes=4, steps=10**8, record=())
    jax.clear_caches()
    assert (run.report["stuck_at"] < 30_000).all() and (run.report["leaps"] == 0).all()
    assert (run.verdict == "unresolved").all()


@pytest.mark.slow
def test_other_models_and_many_problems():
    x, y = np.array([[1.0, 0.2], [-0.3, 1.0], [-1.0, 0.4]]), [1, 1, -1]
    run = jaxsim.regress(x, y, rules.NGD(0.5), init.Gaussian(1.0), key=KEY, lanes=4, steps=10**9)
    assert (run.report["leaps"] > 0).all() and (run.direction_error[:, -1] < 1e-6).all()
    problems = [data.unit_sphere(jax.random.key(s), n=3, T=4, d=5) for s in range(3)]
    how = dict(key=KEY, lanes=4, steps=10**9, record=())
    many = jaxsim.simulate_many(problems, rules.NGD(0.1), init.Gaussian(0.3), **how)
    for k, (problem, far) in enumerate(zip(problems, many, strict=True)):
        alone = jaxsim.simulate(
            problem, rules.NGD(0.1), init.Gaussian(0.3), **how | {"key": jax.random.fold_in(KEY, k)}, coordinates="dual"
        )
        assert (far.report["leaps"] > 0).all() and np.array_equal(far.verdict, alone.verdict)
        np.testing.assert_allclose(far.direction_error, alone.direction_error, rtol=1e-4)

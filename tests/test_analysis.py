"""Verdicts, intervals and rates on data with known answers."""

import jax
import numpy as np
import pytest
import scipy.stats

import jaxsim
from jaxsim.analysis import VERDICTS, Thresholds, by_direction, by_selection, fit_rate, fractions, wilson


def test_each_verdict_once():
    rows = {  # finite, feasible, saturated, optimal, locally optimal
        "nonfinite": (0, 1, 1, 1, 1),
        "infeasible": (1, 0, 1, 0, 0),
        "unresolved": (1, 1, 0, 1, 1),
        "global": (1, 1, 1, 1, 1),
        "local": (1, 1, 1, 0, 1),
        "transient": (1, 1, 1, 0, 0),
    }
    table = np.array(list(rows.values()), bool)
    assert by_selection(*table.T).tolist() == list(rows)
    assert set(rows) == set(VERDICTS)


def test_alignment_is_half_the_squared_direction_error():
    verdict = np.array(["global", "local", "transient", "unresolved", "nonfinite"])
    error = np.array([0.1, 0.2, 0.1, 0.0, np.nan])
    got = by_direction(verdict, error, Thresholds(alignment=0.01))
    assert got.tolist() == ["global", "unresolved", "transient", "unresolved", "nonfinite"]


def test_wilson_against_its_formula():
    for k, n in [(0, 10), (3, 10), (10, 10), (1234, 4096)]:
        z, p = scipy.stats.norm.ppf(0.975), k / n
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        got = wilson(k, n)
        assert got.low == pytest.approx(centre - half, abs=1e-12) and got.high == pytest.approx(
            centre + half, abs=1e-12
        )


def test_fractions_have_one_denominator():
    counted = fractions(np.array(["global"] * 3 + ["local"] + ["nonfinite"]))
    assert [counted[v].count for v in VERDICTS] == [3, 1, 0, 0, 0, 1]
    assert {p.total for p in counted.values()} == {5}


def test_rates_recover_known_exponents():
    steps = np.unique(np.geomspace(1, 10**4, 60).astype(int))
    rng = np.random.default_rng(0)
    scale = np.exp(rng.standard_normal((200, 1)))
    noise = np.exp(0.01 * rng.standard_normal((200, len(steps))))
    power = fit_rate(steps, scale * steps**-0.7 * noise)
    assert power.slope == pytest.approx(-0.7, abs=0.005) and power.low < power.slope < power.high
    assert power.lanes == 200 and power.window == (1000, 10000) and power.r_squared > 0.99
    log = fit_rate(steps, 0.2 + scale / np.log(np.maximum(steps, 2.0)), "inverse-log", window=(10, 10000))
    assert log.slope == pytest.approx(np.median(scale), rel=1e-9) and log.r_squared == pytest.approx(1)


def test_rates_of_little_data_are_nan_not_errors():
    steps = np.array([0, 1, 10, 100])
    assert np.isnan(fit_rate(steps, np.full((3, 4), np.nan)).slope)
    assert np.isnan(fit_rate(np.array([0, 1]), np.ones((3, 2))).slope)
    with pytest.raises(ValueError, match="law: expected"):
        fit_rate(steps, np.ones((1, 4)), "cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="window: expected"):
        fit_rate(steps, np.ones((1, 4)), window=(50, 10))


def test_what_has_not_converged_has_no_rate():
    steps = np.unique(np.geomspace(1, 10**4, 60).astype(int))
    k = np.maximum(steps, 1.0)
    fall = np.tile(k**-0.7, (6, 1))
    assert fit_rate(steps, fall).refused is None and fit_rate(steps, fall).drift == pytest.approx(0, abs=1e-9)
    assert fit_rate(steps, fall[:5]).refused == "under 6 lanes"
    assert fit_rate(steps, np.full((6, len(steps)), np.nan)).refused == "under 6 lanes"
    slow = fit_rate(steps, np.tile(1.1 * (k / k[-1]) ** -0.08, (6, 1)))
    assert slow.refused == "error above 0.5" and slow.error == pytest.approx(1.1) and slow.r_squared > 0.99
    bent = fit_rate(steps, np.tile(1e-3 + k**-2.0, (6, 1)))
    assert bent.refused == "not straight" and bent.drift > 0.5
    rng = np.random.default_rng(0)
    noisy = fit_rate(steps, 1e-2 * np.exp(rng.standard_normal((6, len(steps)))))
    assert noisy.refused == "not straight" and noisy.r_squared < 0.5


@pytest.fixture(scope="module")
def signal():
    return jaxsim.data.signal_noise(jax.random.key(0), n=8, T=4, d=40)


def trained(problem, rule, steps, lanes=32, scale=0.1):
    return jaxsim.simulate(problem, rule, jaxsim.init.Gaussian(scale), key=jax.random.key(1), lanes=lanes, steps=steps)


def test_rate_of_normalised_gd(signal):
    """Direction error falls like 1/t over steps 2,000 to 20,000, and ‖W_t‖ grows by η a step."""
    run = trained(signal, jaxsim.rules.NGD(0.1), 20000)
    assert (run.verdict == "global").all()
    rate = run.rate("power")
    assert -1.05 < rate.slope < -0.95 and rate.window == (2000, 20000) and rate.lanes == 32
    late = run.steps >= 10000
    slope = np.diff(run.norm[:, late][:, [0, -1]], axis=1)[:, 0] / np.diff(run.steps[late][[0, -1]])[0]
    np.testing.assert_allclose(slope, 0.1, rtol=1e-3)
    nines = -run.log10_attention_gap[:, late]
    growth = np.diff(nines[:, [0, -1]], axis=1)[:, 0] / nines[:, 0]
    np.testing.assert_allclose(growth, run.steps[-1] / run.steps[late][0] - 1, rtol=0.02)


def test_rate_of_polyak(signal):
    run = trained(signal, jaxsim.rules.Polyak(), 2000)
    assert (run.verdict == "global").all()
    rate = run.rate("power")
    assert -1.05 < rate.slope < -0.95 and rate.window == (200, 2000)


def test_rate_of_gd(signal):
    """Direction error is linear in 1/log t over steps 2,000 to 200,000, with R² at least 0.99."""
    run = trained(signal, jaxsim.rules.GD(1.0), 200000, lanes=8)
    rate = run.rate("inverse-log", window=(2000, 200000))
    assert (run.verdict == "global").all()
    assert rate.r_squared >= 0.99 and rate.slope > 0 and rate.lanes == 8


def test_local_and_transient_verdicts_occur_and_are_consistent():
    problem = jaxsim.data.digits(positions=True)
    run = trained(problem, jaxsim.rules.NGD(0.5), 2000, lanes=64, scale=3.0)
    assert {"global", "local"} <= set(run.verdict)
    for lane in range(0, 64, 8):
        mm = jaxsim.max_margin(problem, run.selection[lane])
        if run.verdict[lane] == "local":
            assert mm.locally_optimal and not np.array_equal(run.selection[lane], problem.optimal)
        assert run.limit_norm[run.selection_number[lane]] == pytest.approx(mm.norm, rel=1e-12)


def test_an_asymptote_takes_a_known_path_apart():
    """W_t = (3 log t + 1) V + (1 + 1/log t) r: E log t tends to ‖r‖/3, where u is known to grow by 3 in log t."""
    steps = np.unique(np.geomspace(1, 1e12, 121).round())
    log_t = np.log(steps)
    with np.errstate(divide="ignore"):
        along, across = 3 * log_t + 1, 5 * (1 + 1 / log_t)
    norm, along = np.hypot(along, across)[None], along[None]
    with np.errstate(invalid="ignore"):
        error = np.hypot(along / norm - 1, across / norm)
    found = jaxsim.analysis.asymptote(steps, norm, error, "inverse-log", np.array([3.0]))
    assert np.allclose(found.along, along[:, 1:], rtol=1e-12) and np.allclose(found.across, across[1:], rtol=1e-9)
    assert np.allclose(found.predicted, 5 * (1 + 1 / log_t[-1]) / 3)
    root = np.abs(steps - 1e6).argmin()
    assert np.allclose(found.drift, (1 / log_t[root] - 1 / log_t[-1]) / (1 + 1 / log_t[-1]))
    assert 0.97 < found.fitted[0] / (found.across[0, -1] / (3 + 1 / log_t[-1])) < 1.03
    assert "E log t: predicted 1.727" in repr(found)
    nothing = jaxsim.analysis.asymptote(steps, norm, error * np.nan, "power", np.array([np.nan]), (2.0, 3.0))
    assert np.isnan(nothing.early) and repr(nothing).startswith("Asymptote: 0 of 1 lanes have a limit")


@pytest.mark.parametrize("window", [(1, 10), (10, 10)])
def test_an_asymptote_needs_a_window(window):
    with pytest.raises(ValueError, match=r"window: expected 1 < first < last"):
        jaxsim.analysis.asymptote(np.array([1]), np.ones((1, 1)), np.ones((1, 1)), "power", np.ones(1), window)


@pytest.mark.slow
def test_the_constants_of_the_laws_are_those_that_runs_come_to():
    """u of GD grows by ‖W^α‖ in log t and that of NGD by η in t, and ‖r‖ settles: as the laws' constants need."""
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=4, T=5, d=8)
    how = dict(init=jaxsim.init.Gaussian(0.3), key=jax.random.key(1), lanes=8)
    gd = jaxsim.simulate(problem, jaxsim.rules.GD(1.0), steps=10**300, **how)
    found = gd.asymptote()
    decade = found.along[:, -1] - found.along[:, -11]
    assert np.allclose(decade, gd.limit_norm[gd.selection_number] * np.log(10), rtol=1e-3)
    assert np.allclose(found.fitted, found.predicted, rtol=0.02) and (found.drift < 0.02).all()
    assert (np.abs(found.early_over_predicted - 1) > 0.05).any()  # what a fit over 10³..10⁶ makes of it
    ngd = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), steps=40_000, **how)
    found = ngd.asymptote()
    assert np.allclose(np.diff(found.along[:, -2:]) / np.diff(ngd.steps[-2:]), 0.1, rtol=1e-3)
    assert np.allclose(found.predicted, found.across_end / 0.1)
    joint = jaxsim.simulate(problem, jaxsim.rules.GD(1.0), steps=100, train=jaxsim.train.Joint(), **how)
    assert np.isnan(joint.asymptote().predicted).all()

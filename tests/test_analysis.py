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

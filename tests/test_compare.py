"""Rule against rule on the same starts, and continuation along a parameter."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.stats

import jaxsim
from jaxsim import basins


@pytest.fixture(scope="module")
def problem():
    return jaxsim.data.unit_sphere(jax.random.key(2), n=4, T=4, d=6)


@pytest.fixture(scope="module")
def runs(problem):
    how = dict(key=jax.random.key(1), lanes=500, steps=1000, record=[0, 10, 30, 100, 300, 1000], keep=("logits",))
    law = jaxsim.init.Gaussian(1.0)
    return [jaxsim.simulate(problem, rule, law, **how) for rule in (jaxsim.rules.NGD(0.1), jaxsim.rules.Polyak(1.0))]


def test_the_table_counts_lanes_and_the_test_is_mcnemars(runs, tmp_path):
    found = basins.compare(*runs)
    a, b = (run.verdict == "global" for run in runs)
    assert found.table.sum() == 500 and found.table[0].sum() == a.sum() and found.table[:, 0].sum() == b.sum()
    np.testing.assert_array_equal(found.only_first, np.flatnonzero(a & ~b))
    np.testing.assert_array_equal(found.only_second, np.flatnonzero(b & ~a))
    discordant = len(found.only_first), len(found.only_second)
    tail = scipy.stats.binom(sum(discordant), 0.5).cdf(min(discordant))
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    assert found.paired[0] == pytest.approx(a.mean() - b.mean()) == found.unpaired[0]
    width = {name: getattr(found, name)[2] - getattr(found, name)[1] for name in ("paired", "unpaired")}
    assert width["paired"] < width["unpaired"]  # the same starts tell more
    found.save(tmp_path / "found.npz")
    again = basins.Comparison.load(tmp_path / "found.npz")
    assert again.paired == found.paired and again.rules == found.rules


def test_a_rule_against_itself(runs):
    found = basins.compare(runs[0], runs[0])
    assert found.p_value == 1 and found.paired[0] == 0 and len(found.only_first) == len(found.only_second) == 0


@pytest.mark.slow
def test_coverage_of_the_intervals():
    """20,000 samples each: a coverage of 95% would fall below 94.2% with probability below 1e-6."""
    rng = np.random.default_rng(0)
    cells = np.array([0.5, 0.15, 0.05, 0.3])  # both, first only, second only, neither
    hits = 0
    for both, first, second, neither in rng.multinomial(100, cells, 20_000):
        d = basins.paired_difference(first, second, both + first + second + neither)
        hits += d.low <= 0.1 <= d.high
    assert hits / 20_000 > 0.942
    x, y = rng.binomial(60, 0.65, 20_000), rng.binomial(80, 0.55, 20_000)
    ds = [basins.unpaired_difference(a, 60, b, 80) for a, b in zip(x, y, strict=True)]
    assert np.mean([d.low <= 0.1 <= d.high for d in ds]) > 0.942


def test_only_the_same_starts_compare(problem, runs):
    other = jaxsim.simulate(
        problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(1.0), key=jax.random.key(9), lanes=500, steps=1000,
        record=[1000],
    )  # fmt: skip
    with pytest.raises(ValueError, match="second: expected the same starts"):
        basins.compare(runs[0], other)
    shorter = dataclasses.replace(runs[1], settings=runs[1].settings | {"steps": 999})
    with pytest.raises(ValueError, match="second: expected the steps of the first run, 1000; got 999"):
        basins.compare(runs[0], shorter)
    with pytest.raises(ValueError, match="n: expected at least 1; got 0"):
        basins.paired_difference(0, 0, 0)
    assert basins.paired_difference(10, 0, 10).high == 1
    with pytest.raises(ValueError, match="verdict: expected one of global"):
        basins.compare(*runs, verdict="best")


def test_jumps_are_counted_and_located(problem, runs, tmp_path):
    ngd, polyak = (basins.jumps(run) for run in runs)
    assert len(polyak.lane) > 10 * len(ngd.lane)
    run = runs[1]
    expected = []
    for lane in range(run.lanes):
        seen = [
            (step, tuple(a.argmax(1)))
            for step, a, ok in zip(run.steps, run.logits[lane], run.saturated[lane], strict=True)
            if ok
        ]
        expected += [(lane, s, a, b) for (s, a), (_, b) in zip(seen[:-1], seen[1:], strict=True) if a != b]
    found = list(zip(polyak.lane, polyak.left, map(tuple, polyak.before), map(tuple, polyak.after), strict=True))
    assert found == expected
    for k in range(0, len(found), 10):
        assert polyak.was_local[k] == jaxsim.max_margin(problem, polyak.before[k]).locally_optimal
    assert (run.report["capped_steps"][polyak.lane] > 0).mean() > 0.9  # most jumps come of steps cut to their bound
    polyak.save(tmp_path / "jumps.npz")
    np.testing.assert_array_equal(basins.Jumps.load(tmp_path / "jumps.npz").lane, polyak.lane)
    np.testing.assert_allclose(polyak.start_norm, run.norm[polyak.lane, 0], rtol=1e-6)
    bare = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), jaxsim.init.Zero(), key=jax.random.key(0), lanes=1, steps=2)
    with pytest.raises(ValueError, match="logits were not kept"):
        basins.jumps(bare)


def test_disagreement_of_two_maps(problem):
    plane = basins.random_plane(problem, jax.random.key(0))
    how = dict(resolution=(12, 12), steps=300)
    first = basins.basin_map(problem, jaxsim.rules.NGD(0.1), plane, **how)
    second = basins.basin_map(problem, jaxsim.rules.Polyak(), plane, **how)
    np.testing.assert_array_equal(basins.disagreement(first, second), first.verdict != second.verdict)
    ends = [m.selections[m.selection_number] for m in (first, second)]
    apart = basins.disagreement(first, second, selections=True)
    np.testing.assert_array_equal(apart, (first.verdict != second.verdict) | (ends[0] != ends[1]).any(2))
    other = basins.basin_map(problem, jaxsim.rules.NGD(0.1), plane, window=(-1, 1, -1, 1), **how)
    with pytest.raises(ValueError, match="second: expected a map of the same problem, plane, window"):
        basins.disagreement(first, other)


@pytest.fixture(scope="module")
def along(problem):
    second = jaxsim.data.unit_sphere(jax.random.key(7), n=4, T=4, d=6)
    second = jaxsim.Problem(second.tokens, second.queries, problem.labels, second.decoder)
    return basins.continuation(
        lambda share: (basins.between(problem, second, share), jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(1.0)),
        np.linspace(0, 1, 6), name="share of the second data set", key=jax.random.key(1), lanes=300, steps=800,
    )  # fmt: skip


def test_continuation_counts_every_value_and_matches_attractors(problem, along, tmp_path):
    run = jaxsim.simulate(
        problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(1.0), key=jax.random.key(1), lanes=300, steps=800
    )
    assert along.fractions()[0] == run.fractions()["global"]
    settled = along.verdicts[:, :2].sum(1)
    np.testing.assert_array_equal(along.counts.sum(1), settled)
    assert (np.where(along.is_global, along.counts, 0).sum(1) == along.verdicts[:, 0]).all()
    assert (along.exists | (along.counts == 0)).all()  # lanes settle only where an attractor exists
    for value, a, what in along.events:
        v = along.values.tolist().index(value)
        assert along.exists[v, a] == (what == "appears") != along.exists[v - 1, a]
    assert {what for _, _, what in along.events} == {"appears", "vanishes"}
    gained, lost = along.changes.T
    np.testing.assert_array_equal(np.diff(along.verdicts[:, 0]), gained - lost)
    along.save(tmp_path / "along.npz")
    assert basins.Continuation.load(tmp_path / "along.npz").events == along.events


def test_quantifiers_are_those_of_single_runs(problem):
    W = np.random.default_rng(0).normal(size=(400, 6, 6))
    W *= 12 / np.linalg.norm(W, axis=(1, 2), keepdims=True)
    law, how = jaxsim.init.Given(W), dict(key=jax.random.key(2), lanes=400, steps=700)
    etas = [0.1, 0.4]
    found = basins.continuation(lambda eta: (problem, jaxsim.rules.NGD(eta), law), etas, **how)
    quantities = {
        name: found.quantifier(name, steps=150 if name.startswith("finite") else None) for name in basins.QUANTIFIERS
    }
    assert found.counts.shape[1] >= 2
    for v, eta in enumerate(etas):
        run = jaxsim.simulate(problem, jaxsim.rules.NGD(eta), law, **how)
        for a, alpha in enumerate(found.attractors):
            here = np.isin(run.verdict, ("global", "local")) & (run.selection == alpha).all(1)
            elsewhere = np.isin(run.verdict, ("global", "local")) & ~here
            assert quantities["basin stability"].value[v, a] == here.mean()
            sooner = here & (run.settled_step <= 150)
            assert quantities["finite-time basin stability"].value[v, a] == sooner.mean()
            if not here.any():
                assert np.isnan(quantities["critical shock"].value[v, a])
                continue
            ray = jaxsim.max_margin(problem, alpha).W
            ray = ray / np.linalg.norm(ray)  # whole matrices, in place of coordinates
            scale = np.maximum((W * ray).sum((1, 2)), 0)
            distance = np.linalg.norm(W - scale[:, None, None] * ray, axis=(1, 2))
            times = run.settled_step[here]
            assert quantities["convergence time"].value[v, a] == np.median(times)
            pace = quantities["convergence pace"]
            assert pace.value[v, a] == pytest.approx(np.median(times / distance[here]), rel=1e-5)
            assert not (pace.low[v, a] > pace.value[v, a] or pace.high[v, a] < pace.value[v, a])
            shock = quantities["critical shock"]
            assert shock.value[v, a] == pytest.approx(distance[elsewhere].min(initial=np.inf), rel=1e-5)
            assert (shock.low[v, a], shock.high[v, a]) == (0, shock.value[v, a])
    time = quantities["convergence time"]
    assert time.value[1, 0] < time.value[0, 0] and time.low[0, 0] < time.value[0, 0] <= time.high[0, 0]


def test_a_curve_through_two_parameters(problem, tmp_path):
    points = [(0.1, 1.0), (0.2, 3.0), (0.4, 12.0)]
    curve = basins.continuation(
        lambda eta, radius: (problem, jaxsim.rules.NGD(eta), jaxsim.init.Sphere(radius)), points,
        name=("eta", "radius"), key=jax.random.key(1), lanes=60, steps=400,
    )  # fmt: skip
    for v, (eta, radius) in enumerate(points):
        run = jaxsim.simulate(
            problem, jaxsim.rules.NGD(eta), jaxsim.init.Sphere(radius), key=jax.random.key(1), lanes=60, steps=400
        )
        assert curve.fractions()[v] == run.fractions()["global"]
    assert curve.values.tolist() == [list(point) for point in points] and curve.name == "eta, radius"
    curve.save(tmp_path / "curve.npz")
    again = basins.Continuation.load(tmp_path / "curve.npz")
    np.testing.assert_array_equal(
        again.quantifier("convergence time").value, curve.quantifier("convergence time").value
    )
    labels = [t.get_text() for t in jaxsim.plot.continuation(again).get_xticklabels()]
    assert labels == ["0.1, 1", "0.2, 3", "0.4, 12"]
    titles = [ax.get_title(loc="left") for ax in jaxsim.plot.stability(again).axes]
    assert titles[0] == "basin stability" and titles[1].startswith("finite-time basin stability, by step")
    with pytest.raises(ValueError, match="steps: expected a step; got None"):
        curve.quantifier("finite-time basin stability")
    with pytest.raises(ValueError, match="steps: expected at most 400; got 401"):
        curve.quantifier("finite-time basin stability", steps=401)
    late = basins.continuation(
        lambda radius: (problem, jaxsim.rules.NGD(0.5), jaxsim.init.Sphere(radius)), [0.5, 1.0],
        key=jax.random.key(1), lanes=40, steps=400, record=[300, 400],
    )  # fmt: skip
    time = late.quantifier("convergence time")
    known = np.isfinite(time.low)
    assert known.any() and (time.low[known] == 0).all()  # nothing was looked at before
    assert jaxsim.plot.stability(late).axes
    with pytest.raises(ValueError, match="steps: expected none for 'critical shock'; got 5"):
        curve.quantifier("critical shock", steps=5)
    with pytest.raises(ValueError, match="name: expected one of basin stability"):
        curve.quantifier("resilience")
    with pytest.raises(ValueError, match="values: expected numbers, or points of as many numbers each"):
        basins.continuation(lambda *x: None, [1.0, (1.0, 2.0)], key=jax.random.key(0), lanes=1)
    old = dataclasses.replace(curve, ends=None)
    with pytest.raises(ValueError, match="this was saved before they were"):
        old.quantifier("basin stability")


def test_common_random_numbers_narrow_the_differences(problem):
    found = basins.continuation(
        lambda eta: (problem, jaxsim.rules.NGD(eta), jaxsim.init.Gaussian(1.0)), [0.1, 0.15, 0.2],
        key=jax.random.key(1), lanes=300, steps=800,
    )  # fmt: skip
    counts = found.verdicts[:, 0]
    for k, paired in enumerate(found.steps_between()):
        unpaired = basins.unpaired_difference(counts[k + 1], 300, counts[k], 300)
        assert paired.value == pytest.approx(unpaired.value)
        assert paired.high - paired.low < 0.7 * (unpaired.high - unpaired.low)
    with pytest.raises(ValueError, match="values: expected at least two; got 1"):
        basins.continuation(lambda eta: None, [1.0], key=jax.random.key(0), lanes=1)


def test_between_and_flips(problem):
    np.testing.assert_array_equal(basins.between(problem, problem, 0.3).labels, problem.labels)
    key = jax.random.key(3)
    few, many = (basins.flip_labels(problem, share, key).labels != problem.labels for share in (0.4, 0.9))
    assert many.sum() > few.sum() and (many | ~few).all()  # nested
    with pytest.raises(ValueError, match="share: expected a number from 0 to 1"):
        basins.flip_labels(problem, 1.5, key)
    with pytest.raises(ValueError, match="second: expected the labels"):
        basins.between(problem, basins.flip_labels(problem, 1.0, key), 0.5)

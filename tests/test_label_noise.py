"""Label noise: the published draws, coefficients against W and p, gradients at depth, the flow, phases."""

import dataclasses

import numpy as np
import pytest

from jaxsim import reproduce
from jaxsim.reproduce import label_noise_phases as phases
from jaxsim.reproduce import label_noise_runs as runs

SMALL = runs.Setting(d=40, n=6, T=4, signal=3.0, flipped=0.34, eta=0.05, tests=10, seed=7)


@pytest.fixture(scope="module")
def small():
    train, test = (runs.draw(count, SMALL, flipped, SMALL.seed) for count, flipped in ((6, 0.34), (10, 0.0)))
    W = runs.start(SMALL.d, 1)
    return train, test, W, *runs.reduce(train, test, W, SMALL.signal)


def test_the_seed_gives_the_published_data():
    """Straight from the law: noise of `default_rng` in float32, signals on the first three tokens, flips."""
    train = runs.draw(20, runs.Setting(), 0.2, 42)
    drawn = np.random.default_rng(42).standard_normal((20, 8, 2000)).astype(np.float32)
    assert train.tokens.shape == (20, 8, 2000) and drawn[0, 0, 0] == np.float32(0.30471707975443135)
    assert train.tokens[0, 0, 0] == np.float32(0.30471707975443135) + np.float32(20)
    left = train.tokens - drawn
    carried = np.zeros((20, 8, 2))
    for i in range(20):
        own = int(i >= 10)
        carried[i, 0, own], carried[i, 1, own], carried[i, 2, 1 - own] = 20, 2, 2
    np.testing.assert_allclose(left[..., :2], carried, atol=2e-6)
    assert (left[..., 2:] == 0).all()
    assert np.flatnonzero(train.flipped).tolist() == [0, 1, 10, 11]
    assert train.labels.tolist() == [-1] * 2 + [1] * 8 + [1] * 2 + [-1] * 8


def test_published_tests_begin_with_training_sequences():
    train, test = (runs.draw(count, SMALL, flipped, 7) for count, flipped in ((6, 0.34), (20, 0.0)))
    np.testing.assert_array_equal(train.tokens[:3], test.tokens[:3])
    np.testing.assert_array_equal(train.tokens[..., 2:], test.tokens[:6, :, 2:])


def test_coefficients_are_descent_in_w_and_p(small):
    train, test, W, data, tests = small
    record = [1, 2, 30, 200]
    theirs = runs.weights(train, W, SMALL.eta, record, SMALL.signal)
    for (w, q), state in zip(theirs, runs.descend(data, SMALL.eta, record), strict=True):
        scale = np.abs(train.tokens @ w).max()
        assert scale > 1e-3
        np.testing.assert_allclose(runs.logits(data, state), train.tokens @ w, rtol=0, atol=1e-12 * max(1, scale))
        np.testing.assert_allclose(
            tests.logits(state.a, state.b), test.tokens @ w, rtol=0, atol=1e-12 * max(1, np.abs(test.tokens @ w).max())
        )
        assert state.q == pytest.approx(q, rel=1e-11)


def test_products_at_any_signal_are_those_of_the_tokens():
    drawn = phases.draw(SMALL, 3)
    streams = np.random.SeedSequence(3).generate_state(3)
    setting = dataclasses.replace(SMALL, signal=2.5)
    train, test = (runs.draw(n, setting, f, int(s)) for n, f, s in zip((6, 10), (0.34, 0.0), streams, strict=False))
    wanted = runs.reduce(train, test, runs.start(SMALL.d, int(streams[2])), 2.5)
    for ours, theirs in zip(drawn.at(2.5), wanted, strict=True):
        for field in dataclasses.fields(theirs):
            one, other = getattr(ours, field.name), getattr(theirs, field.name)
            np.testing.assert_allclose(one, other, rtol=0, atol=5e-6)  # tokens with signals are rounded to float32
    assert set(wanted[0].labels) == {-1.0, 1.0} and wanted[0].flipped.sum() == 2


@pytest.mark.parametrize("depth", [1.0, 30.0, 300.0, 1000.0])
def test_gradients_are_those_of_many_digits(depth):
    mp = pytest.importorskip("mpmath").mp.clone()
    mp.dps = 60 + int(4 * depth)
    rng = np.random.default_rng(0)
    logits, told = depth * rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    g, c = runs.gradient(logits, told)
    for i in range(5):
        weights = [mp.exp(mp.mpf(a)) for a in logits[i]]
        phi = [w / sum(weights) for w in weights]
        f = sum(p * mp.mpf(r) for p, r in zip(phi, told[i], strict=True))
        for t in range(4):
            exact = -phi[t] * (mp.mpf(told[i, t]) - f) / (5 * (1 + mp.exp(f))) / mp.exp(mp.mpf(c))
            if abs(exact) > 1e-290:
                assert g[i, t] == pytest.approx(float(exact), rel=1e-11)
            else:
                assert abs(g[i, t]) <= 1e-290
    assert np.abs(g).max() > 1e-3  # the largest never vanishes, however saturated the maps are


def test_the_flow_is_what_small_steps_come_to(small):
    *_, data, _ = small
    (begin,) = runs.descend(data, SMALL.eta, [50])
    (flowed,) = runs.flow(data, SMALL.eta, [1000], begin, 50, rtol=1e-10)
    errors = []
    for finer in (1, 2, 4):
        (state,) = runs.descend(data, SMALL.eta / finer, [1000 * finer], begin, 50 * finer)
        errors.append(np.abs(runs.logits(data, state) - runs.logits(data, flowed)).max())
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2, atol=0.1)  # a difference of order η


def test_steps_taken_one_by_one_end_where_they_are_told(small):
    *_, data, _ = small
    for record in ([10, 20], [10, 30, 60], [30], [40, 60]):
        states = phases.follow(data, SMALL.eta, record, 30)
        assert len(states) == len(record)
        (last,) = runs.descend(data, SMALL.eta, [record[0]])
        np.testing.assert_allclose(runs.logits(data, states[0]), runs.logits(data, last), atol=2e-3)


def test_phases_and_their_shares():
    lane = phases.Lane(*np.array([[0.9, 1, 1], [0, 1, 1], [1, 0.95, 0.94], [0, 0, 0], [0, 0, 0]]))
    assert [phases.PHASES[k] for k in lane.phase] == ["not yet fitted", "benign", "harmful"]
    counts, low, high = phases.shares(np.array([[0, 1], [0, 2], [0, 2], [0, 1]]))
    assert counts.tolist() == [[4, 0], [0, 2], [0, 2]]
    assert high[0, 0] == 1 and 0.5 < low[0, 0] < 0.52 and (low <= counts / 4).all() and (counts / 4 <= high).all()


@pytest.fixture(scope="module")
def result():
    return reproduce.reproduce("label-noise", quick=True)


def test_the_published_arithmetic_agrees_before_maps_saturate(result):
    rows = {row.quantity: row for row in result.rows}
    for quantity, row in rows.items():
        if row.original is not None and "logit" not in quantity:
            assert row.recomputed == row.original
    apart = rows["step 50: largest difference of a logit"]
    assert apart.recomputed < 1e-13 and 0 < apart.original < 1e-5
    leak = next(row for quantity, row in rows.items() if "published tests" in quantity)
    assert "20 test sequences" in leak.note and "10 of them are training sequences" in leak.note


def test_weak_signals_are_harmful_and_strong_ones_benign(result):
    phase, signals = result.arrays["phases"], result.arrays["signals"]
    assert (phase[:, :, -1] == np.where(signals >= 20, 0, 1)[:, None]).all() and (phase[:, :, 0] == 2).all()
    assert (np.diff(result.arrays["phase_relevant"][:, :, 1:], axis=2) > 0).all()  # tests go on learning where to look
    assert (np.diff(result.arrays["phase_test"][:2, :, 1:], axis=2).sum(2) < 0).all()  # and weak ones err more often

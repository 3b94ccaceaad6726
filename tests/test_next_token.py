"""Next-token prediction: the published draws and numbers, and right gradients."""

import numpy as np
import pytest

from jaxsim import reproduce
from jaxsim.reproduce import draws, next_token, next_token_runs

# Labels of the published draws, as the released notebooks print them.
GLOBAL_LABELS = [
    [1, 5, 5, 0, 1, 3], [5, 0, 4, 4, 0, 3], [4, 1, 4, 4, 2, 1], [2, 4, 5, 5, 0, 1], [3, 1, 3, 3, 1, 0],
    [0, 0, 3, 0, 4, 0], [1, 0, 3, 1, 4, 4], [2, 4, 1, 4, 0, 5], [5, 5, 2, 2, 1, 4], [4, 5, 2, 3, 3, 3],
]  # fmt: skip
LOCAL_LABELS = [
    [1, 5, 5, 0, 1, 3], [3, 0, 5, 2, 2, 4], [3, 2, 3, 2, 5, 0], [5, 4, 3, 0, 2, 4], [5, 4, 1, 4, 5, 4],
    [1, 0, 4, 4, 3, 5], [1, 5, 3, 1, 0, 1], [1, 5, 3, 5, 3, 4], [3, 0, 5, 2, 1, 2], [2, 3, 1, 0, 0, 5],
]  # fmt: skip
SECOND = [[5, 1, 2, 0], [5, 4, 0, 3], [3, 2, 4, 5], [5, 4, 1, 0], [5, 2, 4, 0], [3, 4, 0, 1]]  # sequences of draw 1


@pytest.mark.parametrize(("layers", "labels"), [(2, GLOBAL_LABELS), (3, LOCAL_LABELS)])
def test_the_seed_gives_the_published_draws(layers, labels):
    batch = next_token_runs.draw(10, layers)
    np.testing.assert_array_equal(batch.labels, labels)
    if layers == 2:
        np.testing.assert_array_equal(batch.sequences[1], SECOND)
    np.testing.assert_allclose(batch.starts.var((1, 2), ddof=1)[0], 0.0415, atol=5e-5)  # printed


def test_blocks_of_numbers_with_and_without_vector_instructions_differ_in_last_bits():
    one, other = (draws.Stream(1, vectorised=v).normal(6, 8) for v in (True, False))
    assert 0 < np.abs(one - other).max() < 3e-6


@pytest.fixture(scope="module")
def result():
    return reproduce.reproduce("next-token", quick=True)


def test_the_published_arithmetic_gives_the_published_correlations(result):
    for setting in (next_token.GLOBAL, next_token.LOCAL):
        last, before = result.arrays[f"{setting.name}_original"][[-1, -2]]
        missed = np.abs([last, before] - np.array(setting.published))
        bounces = np.abs(last - before) > 1e-5  # rounding decides which of the two comes last
        assert bounces.sum() == (2 if setting is next_token.LOCAL else 0)
        np.testing.assert_array_less(np.where(bounces, missed.min(0), missed[0]), 1e-5)
    rest = [row for row in result.rows if "rest" in row.quantity]
    assert len(rest) == 10 and all(row.original_agrees for row in rest)


def test_right_gradients_change_eight_local_correlations_and_no_global_one(result):
    rows = [
        row for row in result.rows if row.quantity.endswith("of W with the graph-SVM") and "rest" not in row.quantity
    ]
    assert len(rows) == 20
    assert all(row.agrees for row in rows[:10]) and sum(bool(row.agrees) for row in rows[10:]) == 2
    assert (result.arrays["local_right_step_length"] == 1).all()
    assert (result.arrays["local_original_step_length"] < 0.1).sum() == 8
    assert not result.unexplained


def test_right_gradients_are_those_of_many_digits():
    mp = pytest.importorskip("mpmath").mp.clone()
    mp.dps = 120
    logits = 200 * np.random.default_rng(1).standard_normal((6, 4))
    phi = np.exp(logits - logits.max(1, keepdims=True))
    phi /= phi.sum(1, keepdims=True)
    r = np.random.default_rng(0).standard_normal(phi.shape)
    wanted = np.empty_like(phi)
    for i in range(len(phi)):
        weights = [mp.mpf(weight) for weight in phi[i]]
        total = sum(weights)
        mean = sum(w / total * mp.mpf(x) for w, x in zip(weights, r[i], strict=True))
        wanted[i] = [float(w / total * (mp.mpf(x) - mean)) for w, x in zip(weights, r[i], strict=True)]
    top = phi == phi.max(1, keepdims=True)
    np.testing.assert_allclose(next_token_runs.exact(phi, r), wanted, rtol=1e-11)
    assert np.abs(next_token_runs.rounded(phi, r)[top] / wanted[top] - 1).max() > 0.5

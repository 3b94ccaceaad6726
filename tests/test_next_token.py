"""Next-token prediction: the published draws and numbers, and right gradients."""

import numpy as np
import pytest

from jaxsim import reproduce
from jaxsim.reproduce import draws, next_token, next_token_runs, next_token_starts

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


def test_every_start_has_one_verdict_and_shares_add_up(result):
    rows = [row for row in result.rows if ": share " in row.quantity]
    assert [row.quantity.rpartition(" ")[2] for row in rows] == list(next_token_starts.VERDICTS)
    assert sum(row.recomputed for row in rows) == pytest.approx(1) == sum(row.original or 0.0 for row in rows)
    assert len(result.arrays["starts_right_verdict"]) == 20 and all("interval" in row.note for row in rows)
    settled = result.arrays["starts_right_verdict"] < 2
    assert settled.all() and (result.arrays["starts_right_correlation"] > 0.9).all()


def test_selections_hold_for_three_times_as_long_and_a_better_active_token_beats_them():
    starts = next_token_starts.many(next_token_runs.draw(10, 3), 1)
    path = next_token_runs.descend(starts, next_token_runs.squared, eta=0.1, record=[2000, 6000], published=False)
    chosen = path.attention > next_token_runs.SELECTED
    np.testing.assert_array_equal(chosen[0], chosen[1])
    e, sequences = np.eye(3), np.array([[0, 1, 2]])
    svm = next_token_starts.graph_svm(e, sequences, [0])
    away, towards = (np.array([[-sign, sign, 0.0]]) for sign in (1e-9, -1e-9))
    assert next_token_starts.beaten(svm, towards) and not next_token_starts.beaten(svm, away)


def test_what_is_not_saturated_is_unresolved():
    starts = next_token_starts.many(next_token_runs.draw(10, 3), 1)
    path = next_token_runs.descend(starts, next_token_runs.squared, eta=0.1, record=[100], published=False)
    verdicts, _ = next_token_starts.judge(starts, path)
    low = np.where(path.attention[-1] > next_token_runs.SELECTED, 0.0, path.attention[-1]).max((1, 2))
    np.testing.assert_array_equal(
        verdicts == next_token_starts.VERDICTS.index("unresolved"), low > next_token_starts.OPEN
    )
    assert (low > next_token_starts.OPEN).any()

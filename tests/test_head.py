"""A head on real data: accuracies by hand, splits, files, the command line, bad input."""

import json

import jax
import numpy as np
import pandas as pd
import pytest
from test_cli import command, refused

import jaxsim
from jaxsim import rules, train
from jaxsim.data import digits_split, load_split

KEY = jax.random.key(0)
RULES = [rules.GD(1.0), rules.NGD(0.1), rules.Polyak(max_step=100.0), rules.Adam(0.03)]


@pytest.fixture(scope="module")
def split():
    return digits_split((3, 8), images=20)


@pytest.fixture(scope="module")
def found(split):
    return jaxsim.heads({"3,8": split}, RULES, key=KEY, lanes=3, steps=60, batch=7)


def by_hand(problem, W, u):
    """Share of sequences with y f(x) > 0, and the mean of the largest attention weights."""
    right, largest = [], []
    for x, z, y in zip(problem.tokens, problem.queries, problem.labels, strict=True):
        a = x @ W @ z
        phi = np.exp(a - a.max()) / np.exp(a - a.max()).sum()
        right.append(y * (phi @ (x @ u)) > 0)
        largest.append(phi.max())
    return np.mean(right), np.mean(largest)


@pytest.mark.parametrize("k", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, len(RULES)))])
def test_accuracies_are_those_of_the_weights(split, found, k):
    start = jaxsim.init.Given(jaxsim.head._starts(split[0], KEY, 3, 0.1))
    how = train.Joint(np.zeros(16), batch=7, key=jax.random.fold_in(KEY, 2**32 - 1))
    run = jaxsim.simulate(split[0], RULES[k], start, key=KEY, lanes=3, steps=60, train=how)
    for lane in range(3):
        W, u = run.W(lane), run.more["decoder"][lane]
        for name, problem in zip(("train_accuracy", "test_accuracy"), split, strict=True):
            accuracy, attention = by_hand(problem, W, u)
            assert found.curves[name][0, k, lane, -1] == accuracy
            if problem is split[0]:
                np.testing.assert_allclose(found.curves["attention"][0, k, lane, -1], attention, rtol=1e-9)


def test_a_rule_that_leaves_the_span_is_followed_there():
    """Six sequences of two tokens in 16 dimensions: Adam moves W out of the span of the training data."""
    rng = np.random.default_rng(0)
    y = np.tile([1.0, -1.0], 3)
    u = rng.standard_normal(16)
    one, two = (jaxsim.Problem(rng.standard_normal((6, 2, 16)), rng.standard_normal((6, 16)), y, u) for _ in range(2))
    found = jaxsim.heads({"a": (one, two)}, RULES[2:], key=KEY, lanes=2, steps=80, scale=1.0)
    start = jaxsim.init.Given(jaxsim.head._starts(one, KEY, 2, 1.0))
    assert found.settings["coordinates"] == ["primal", "full"]
    for k, rule in enumerate(RULES[2:]):
        run = jaxsim.simulate(one, rule, start, key=KEY, lanes=2, steps=80, train=train.Joint(np.zeros(16)))
        for lane in range(2):
            accuracy, _ = by_hand(two, run.W(lane), run.more["decoder"][lane])
            assert found.curves["test_accuracy"][0, k, lane, -1] == accuracy


def test_a_decoder_of_zero_predicts_nothing_and_all_rules_start_alike(found):
    assert (found.curves["train_accuracy"][..., 0] == 0).all()  # ties count as wrong
    assert np.ptp(found.curves["norm"][..., 0], axis=1).max() < 1e-12
    assert (found.curves["train_accuracy"][..., -1] > 0.9).all()
    assert (found.curves["log10_loss"][..., -1] < found.curves["log10_loss"][..., 0]).all()


def test_intervals_and_tables(split, found):
    mean, low, high = found.interval("test_accuracy")
    assert mean.shape == (4, len(found.steps)) and (low <= mean).all() and (mean <= high).all()
    np.testing.assert_allclose(mean, found.curves["test_accuracy"][0].mean(1))
    alone = jaxsim.heads({"3,8": split}, RULES[:1], key=KEY, lanes=1, steps=5)
    mean, low, high = alone.interval("norm")
    assert np.isfinite(mean).all() and np.isnan(low).all() and np.isnan(high).all()
    table, curves = found.to_pandas(), found.curves_table()
    assert len(table) == 4 * 3 and len(curves) == 4 * len(found.steps) * len(found.curves)
    row = curves[(curves["quantity"] == "norm") & (curves["step"] == 60) & (curves["rule"] == found.rules[1])]
    np.testing.assert_allclose(row["mean"], found.curves["norm"][0, 1, :, -1].mean())
    np.testing.assert_allclose(row["high"], found.curves["norm"][0, 1, :, -1].max())
    for arguments, message in ((("size",), "curve: expected one of"), (("norm", 1.0), "level: expected a number")):
        with pytest.raises(ValueError, match=message):
            found.interval(*arguments)


def test_the_split_is_fixed_and_complete():
    one, two = digits_split((0, 1), images=40)
    whole, _ = digits_split((0, 1), images=300)
    assert one.shape == (40, 4, 16) and two.shape == (320, 4, 16)
    back = lambda p: p.tokens - p.tokens[0, 0]  # noqa: E731  (the mean patch is that of the training images)
    np.testing.assert_allclose(back(one)[:20], back(whole)[:20], atol=1e-12)
    first = jaxsim.data.digits((0, 1), 40)
    assert first.fingerprint() == one.fingerprint()
    np.testing.assert_array_equal(one.decoder, two.decoder)
    assert digits_split((0, 1), images=40, positions=True)[1].shape == (320, 4, 20)


def arrays(n=6, m=4, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.ones((n, 3), bool)
    mask[0, 2] = False
    return {
        "tokens": rng.standard_normal((n, 3, 5)), "queries": np.zeros(n, int), "labels": np.tile([1.0, -1.0], n // 2),
        "mask": mask, "test_tokens": rng.standard_normal((m, 2, 5)), "test_queries": np.ones(m, int),
        "test_labels": np.tile([1.0, -1.0], m // 2),
    }  # fmt: skip


def test_files_are_read_with_and_without_a_test_set(tmp_path):
    given = arrays()
    np.savez(tmp_path / "a.npz", **given)
    one, two = load_split(tmp_path / "a.npz")
    assert two is not None and two.shape == (4, 2, 5)
    seen = np.where(given["mask"][:, :, None], given["tokens"], np.nan)
    mean = np.nanmean(seen, axis=1)
    np.testing.assert_allclose(one.decoder, np.linalg.solve(mean.T @ mean + np.eye(5), mean.T @ given["labels"]))
    np.savez(tmp_path / "b.npz", **{k: v for k, v in given.items() if "test" not in k}, decoder=np.arange(5.0))
    alone, nothing = load_split(tmp_path / "b.npz")
    assert nothing is None and alone.decoder[4] == 4
    found = jaxsim.heads({"b": (alone, None)}, RULES[1:2], key=KEY, lanes=2, steps=5)
    assert "test_accuracy" not in found.curves and len(found.to_pandas()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "lacks labels; expected tokens, queries, labels"),
        ({"test_labels": None}, "lacks test_labels"),
        ({"test_tokens": np.ones((4, 2, 6))}, r"test set: .*"),
        ({"test_labels": np.zeros(4)}, r"test set: labels: expected \+1 or -1"),
    ],
)
def test_bad_files(change, message, tmp_path):
    given = arrays() | change
    np.savez(tmp_path / "a.npz", **{k: v for k, v in given.items() if v is not None})
    with pytest.raises(ValueError, match=message):
        load_split(tmp_path / "a.npz")


def test_without_limits_no_maximum_margin_problem_is_solved(split, found, monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr("jaxsim.analysis.limits.MarginSolver", refuse)
    alone = jaxsim.heads({"3,8": split}, RULES[1:2], key=KEY, lanes=3, steps=60, batch=7, limits="none")
    assert np.isnan(alone.curves["direction_error"]).all() and np.isfinite(alone.curves["attention"]).all()
    np.testing.assert_array_equal(alone.curves["test_accuracy"][:, 0], found.curves["test_accuracy"][:, 1])


def test_bad_input(split):
    other = digits_split((3, 8), images=20, positions=True)
    cases = [
        (dict(sets={}), "sets: expected at least one data set"),
        (dict(rules=[]), "rules: expected at least one rule"),
        (dict(sets={"a": (split[0], other[1])}), r"sets: expected a test set with W of shape \(16, 16\)"),
        (dict(sets={"a": split, "b": (split[0], None)}), "sets: expected a test set for every data set or for none"),
        (dict(batch=21), "batch: expected at most n = 20 sequences; got 21"),
        (dict(scale=0), "scale: expected a number above 0"),
        (dict(lanes=0), "lanes: expected at least 1"),
    ]
    for options, message in cases:
        arguments = dict(sets={"a": split}, rules=RULES[:1], key=KEY, steps=1) | options
        with pytest.raises(ValueError, match=message):
            jaxsim.heads(arguments.pop("sets"), arguments.pop("rules"), **arguments)
    with pytest.raises(ValueError, match="images: expected some of both classes left for the test set; got 348"):
        digits_split((3, 3 + 5), images=2 * 174)


def test_the_command_line(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    done = command("head", "--data", "a.npz", "--steps", 20, "--lanes", 2, "--rule", "ngd=0.1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("a: n=6, T=3, d=5, 4 to test; 2 starts, 20 steps on batches of 6", "test accuracy %", "figure.png"):
        assert word in done.stdout, word
    folder = tmp_path / "jaxsim-head-001"
    assert {p.name for p in folder.iterdir()} == {
        "settings.json", "environment.json", "lanes.parquet", "curves.parquet", "figure.png",
    }  # fmt: skip
    assert json.loads((folder / "settings.json").read_text())["batch"] == 6
    assert len(pd.read_parquet(folder / "lanes.parquet")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "letters"], "data: expected digits or a FILE.npz; got 'letters'"),
        (["--data", "a.npz", "--classes", "3,8"], "--classes: has no meaning for --data a.npz"),
        (["--classes", "3"], "classes: expected two digits such as 3,8, or all; got '3'"),
        (["--classes", "3,8", "--batch", "some"], "batch: expected a whole number from 1 to n = 200, or full"),
        (["--classes", "3,8", "--batch", "201"], "batch: expected at most n = 200 sequences; got 201"),
        (["--classes", "3,8", "--limits", "some"], "limits: expected 'all', 'saturated' or 'none'; got 'some'"),
        (["--classes", "3,8", "--rule", "lion=1"], "rule: expected NAME=STEP"),
        (["--classes", "3,8", "--images", "400"], "images: the data set has"),
    ],
)
def test_the_command_line_refuses(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused("head", arguments, message, capsys, monkeypatch)
    assert not list(tmp_path.iterdir())

"""The result object and the results folder."""

import jax
import numpy as np
import optax
import pandas as pd
import pytest

import jaxsim
from jaxsim import plot, rules, storage


@pytest.fixture(scope="module")
def runs():
    problem = jaxsim.data.digits(positions=True)
    chosen = [rules.GD(1000.0), rules.NGD(0.5), rules.Polyak()]
    law = jaxsim.init.Gaussian(3.0)
    return [jaxsim.simulate(problem, rule, law, key=jax.random.key(0), lanes=32, steps=400) for rule in chosen]


def test_shapes(runs):
    run = runs[1]
    R = len(run.steps)
    for name in ("norm", "direction_error", "log10_grad_norm", "log10_gap", "log10_attention_gap"):
        assert getattr(run, name).shape == (32, R)
    assert run.final_logits.shape == run.final_coeffs.shape == (32, 20, 4)
    assert run.selection.shape == (32, 20) and run.verdict.shape == (32,)
    assert run.steps[0] == 0 and run.steps[-1] == 400


def test_final_coefficients_explain_the_movement(runs):
    run = runs[1]
    frame = run.frame
    np.testing.assert_allclose(frame.combine(run.final_coeffs), run.position - run.start, atol=1e-7)


def test_kept_coefficients(problem, key):
    law = jaxsim.init.Gaussian(1.0)
    for coordinates in ("dual", "primal"):
        run = jaxsim.simulate(
            problem, jaxsim.rules.NGD(0.1), law, key=key, lanes=3, steps=50, keep=("coeffs",), coordinates=coordinates
        )
        assert run.coeffs is not None and run.coeffs.shape == (3, len(run.steps), 3, 4)
        np.testing.assert_allclose(run.frame.combine(run.coeffs[:, -1]), run.position - run.start, atol=1e-9)
        np.testing.assert_array_equal(run.final_coeffs, run.coeffs[:, -1])


@pytest.mark.parametrize("init", [jaxsim.init.Gaussian(1.0), jaxsim.init.Given(np.eye(5))])
def test_save_and_load(problem, key, init, tmp_path):
    run = jaxsim.simulate(problem, jaxsim.rules.Polyak(), init, key=key, lanes=6, steps=60, keep=("logits", "coeffs"))
    run.save(tmp_path / "run.npz")
    again = jaxsim.Run.load(tmp_path / "run.npz")
    pd.testing.assert_frame_equal(run.to_pandas(), again.to_pandas())
    assert again.summary() == run.summary()
    np.testing.assert_array_equal(again.logits, run.logits)
    np.testing.assert_array_equal(again.W(3), run.W(3))
    assert again.problem.fingerprint() == run.problem.fingerprint()


def test_load_refuses_other_files(tmp_path, problem):
    jaxsim.data.save(problem, tmp_path / "problem.npz")
    (tmp_path / "noise.npz").write_bytes(b"noise")
    for name in ("problem.npz", "noise.npz", "absent.npz"):
        with pytest.raises(ValueError, match="path: expected a saved run"):
            jaxsim.Run.load(tmp_path / name)


def test_load_refuses_a_newer_format(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxsim._archive.FORMAT", 99)
    runs[0].save(tmp_path / "run.npz")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format 99; this version reads up to 1"):
        jaxsim.Run.load(tmp_path / "run.npz")


def test_table_has_one_row_per_lane(runs):
    frame = runs[2].to_pandas()
    assert len(frame) == 32 and {"verdict", "direction_error", "capped_steps", "start_norm"} <= set(frame)


def test_summary_counts_every_lane(runs):
    for run in runs:
        summary = run.summary()
        assert sum(v["count"] for v in summary["verdicts"].values()) == 32
        assert {v["total"] for v in summary["verdicts"].values()} == {32}


def test_results_folder(runs, tmp_path):
    with storage.claim(tmp_path / "a" / "out") as folder:
        storage.write(folder, {"digits": runs}, {"seed": 0}, full=True)
    names = {p.name for p in folder.iterdir()}
    assert {"settings.json", "environment.json", "summary.json", "lanes.parquet", "curves.parquet"} <= names
    assert {"selections.parquet", "figure.png", "problem-digits.npz", "run-digits-1-ngd.npz"} <= names
    table = pd.read_parquet(folder / "lanes.parquet")
    assert len(table) == 96 and table.verdict.value_counts().sum() == 96
    curve = pd.read_parquet(folder / "curves.parquet")
    last = curve[
        (curve.rule == repr(runs[1].settings["rule"]).strip("'")) & (curve.quantity == "norm") & (curve.step == 400)
    ]
    assert last.q50.item() == pytest.approx(np.median(runs[1].norm[:, -1]))
    assert pd.read_parquet(folder / "selections.parquet").lanes.sum() == 96


@pytest.mark.parametrize(
    ("path", "message"),
    [("full", "exists and is not empty"), ("full/precious", "File exists"), ("full/precious/in", "cannot make")],
)
def test_bad_folders(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    with pytest.raises(ValueError, match=f"out: .*{message}"), storage.claim(path):
        raise AssertionError


def test_folders_are_claimed_before_the_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with storage.claim(None) as first, storage.claim(None) as second:
        assert (first.name, second.name) == ("jaxsim-run-001", "jaxsim-run-002")
    with pytest.raises(KeyError), storage.claim("new"):
        raise KeyError
    assert not (tmp_path / "new").exists()


def test_curves_are_drawn_from_the_numbers(runs):
    run = runs[1]
    ax = plot.direction_error(run)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), run.steps[1:])
    np.testing.assert_allclose(line.get_ydata(), np.median(run.direction_error[:, 1:], axis=0))
    assert line.get_color() == plot.RULE_COLOURS["ngd"]
    gap = plot.attention_gap(run)
    np.testing.assert_allclose(gap.lines[0].get_ydata(), -np.median(run.log10_attention_gap[:, 1:], axis=0))


def test_bars_add_up(runs):
    ax = plot.verdict_bars(runs)
    widths = np.zeros(3)
    for container in ax.containers:
        widths += [bar.get_width() for bar in container]
    np.testing.assert_allclose(widths, 100)


@pytest.mark.parametrize("lanes", [1, 2])
def test_few_and_nonfinite_lanes_are_drawn_with_words(problem, key, lanes):
    run = jaxsim.simulate(
        problem, jaxsim.rules.NGD(0.1), jaxsim.init.Given(np.full((5, 5), 1e308)), key=key, lanes=lanes, steps=3
    )
    assert (run.verdict == "nonfinite").all()
    figure = plot.overview({"broken": [run]})
    assert any("no finite lanes" in t.get_text() for ax in figure.axes for t in ax.texts)
    assert run.summary()["median_norm"] is None


def test_coefficients_of_a_bad_lane_stay_its_own(problem, key):
    starts = np.random.default_rng(0).standard_normal((3, 5, 5))
    starts[1] = 1e308
    run = jaxsim.simulate(
        problem, jaxsim.rules.NGD(0.1), jaxsim.init.Given(starts), key=key, lanes=3, steps=9, coordinates="primal",
        keep=("coeffs",),
    )  # fmt: skip
    assert np.isfinite(run.final_coeffs[[0, 2]]).all() and run.verdict[1] == "nonfinite"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (rules.NGD(0.1), "NGD 0.1"),
        (rules.Polyak(), "Polyak 1"),
        (rules.Polyak(max_step=5), "Polyak 1, max_step=5"),
        (rules.Mirror(0.1, p=3), "Mirror 0.1, p=3.0"),
        (rules.PerBlock(rules.NGD(0.1), rules.GD(0.5)), "PerBlock NGD 0.1, GD 0.5"),
        (rules.Optax(optax.sgd(0.1)), "Optax"),
        (rules.Optax(optax.sgd(0.1), normalise=True), "Optax normalise=True"),
        (rules.NGD(optax.constant_schedule(0.1)), "NGD constant_schedule.<locals>.<lambda>"),
    ],
)
def test_rules_that_differ_have_labels_that_differ(rule, text):
    assert rules.label(rule) == text


def test_thresholds_are_checked(problem):
    with pytest.raises(ValueError, match="saturation: expected a number between 0 and 1; got 2"):
        jaxsim.Thresholds(saturation=2)
    with pytest.raises(ValueError, match="alignment: expected a number between 0 and 2; got -3"):
        jaxsim.Thresholds(alignment=-3)
    with pytest.raises(ValueError, match="thresholds: expected a jaxsim.analysis.Thresholds; got 0.05"):
        jaxsim.simulate(
            problem, rules.NGD(0.1), jaxsim.init.Zero(), key=jax.random.key(0), lanes=1, steps=1, thresholds=0.05
        )

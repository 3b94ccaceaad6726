"""Figures of runs show the numbers of the results, and say in words where there is nothing to show."""

import dataclasses

import jax
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import jaxsim
from jaxsim import plot
from jaxsim.analysis import VERDICTS


@pytest.fixture(scope="module")
def problem():
    return jaxsim.data.unit_sphere(jax.random.key(0), n=4, T=5, d=6)


@pytest.fixture(scope="module")
def runs(problem):
    rules = jaxsim.rules.GD(10.0), jaxsim.rules.NGD(0.5), jaxsim.rules.Polyak()
    law, key = jaxsim.init.Gaussian(1.0), jax.random.key(1)
    return [jaxsim.simulate(problem, r, law, key=key, lanes=40, steps=1000, keep=["logits"]) for r in rules]


def without(run, **changes):
    """The same run with some arrays not finite."""
    return dataclasses.replace(run, **{name: np.full_like(getattr(run, name), np.nan) for name in changes})


def axes():
    return Figure().subplots()


def words(ax):
    return " ".join(text.get_text() for text in ax.texts)


def test_norm_and_loss_gap_draw_medians_and_bands(runs):
    for draw, values in ((plot.norm, runs[1].norm), (plot.loss_gap, -runs[1].log10_gap)):
        ax = draw(runs[1], axes())
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), np.median(values[:, 1:], axis=0))
        band = ax.collections[0].get_paths()[0].vertices[:, 1]
        assert band.max() == np.percentile(values[:, 1:], 95, axis=0).max()
        assert ax.lines[0].get_color() == plot.RULE_COLOURS["ngd"]
        bad = dataclasses.replace(runs[1], norm=np.full_like(runs[1].norm, np.nan))
        assert "no finite lanes" in words(draw(bad, axes()))


def test_predicted_slopes_lie_beside_their_curves(runs):
    figure = plot.trajectories(runs)
    error, digits, norm, loss = figure.axes
    slope = {"∝ 1/t": -1.0, "∝ t": 1.0}
    for ax, expected in ((error, {"∝ 1/log t", "∝ 1/t"}), (digits, {"∝ log t", "∝ t"}), (norm, {"∝ log t", "∝ t"})):
        assert {text.get_text() for text in ax.texts} == expected
        guides = [line for line in ax.lines if line.get_label() == "_predicted"]
        assert len(guides) == 3
        for line, text in zip(guides, ax.texts, strict=True):
            x, y = (np.log(part) for part in line.get_data())
            if text.get_text() in slope:
                np.testing.assert_allclose(np.diff(y) / np.diff(x), slope[text.get_text()], rtol=1e-9)
            else:
                np.testing.assert_allclose(np.abs(np.diff(y) / np.diff(np.log(x))), 1, rtol=1e-9)
    assert np.mean(runs[0].verdict == "global") > 0.5 and loss.texts
    # The measured growth of NGD's norm over its last decade is the predicted one to a tenth.
    steps, median = runs[1].steps, np.median(runs[1].norm, axis=0)
    late = steps >= 100
    assert np.polyfit(np.log(steps[late]), np.log(median[late]), 1)[0] == pytest.approx(1, abs=0.1)


def test_no_slope_of_the_loss_is_predicted_where_runs_end_elsewhere(runs):
    ax = plot.loss_gap(runs[1], axes())
    local = dataclasses.replace(runs[1], problem=runs[1].problem, selections=(runs[1].selections + 1) % 5)
    assert (local.verdict != "global").all()
    from jaxsim.plot.curves import guide

    guide(local, "loss digits", ax)
    assert not ax.texts
    guide(runs[1], "loss digits", ax)
    assert [text.get_text() for text in ax.texts] == ["∝ t"]


def test_selections_show_lanes_verdicts_and_norms(runs):
    ax = plot.selections(runs[1], axes())
    counts = np.bincount(runs[1].selection_number)
    order = np.argsort(-counts, kind="stable")
    assert [text.get_text().strip() for text in ax.texts] == [f"{c:,}" for c in counts[order]]
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    for k, label in zip(order, labels, strict=True):
        assert label.startswith(" ".join(map(str, runs[1].selections[k])))
        assert label.endswith(f"{runs[1].limit_norm[k]:.3g}")
    for v in VERDICTS:
        wide = sum(p.get_width() for p in ax.patches if to_hex(p.get_facecolor()) == plot.VERDICT_COLOURS[v].lower())
        assert wide == (runs[1].verdict == v).sum()
    few = plot.selections(runs[1], axes(), most=1)
    if len(counts) > 1:
        assert few.get_yticklabels()[-1].get_text() == f"{len(counts) - 1} others"


def test_attention_maps_are_softmax_of_the_logits(runs):
    run = runs[1]
    phi = plot.attention(run, 3)
    exp = np.exp(run.logits[3] - run.logits[3].max(-1, keepdims=True))
    np.testing.assert_allclose(phi, exp / exp.sum(-1, keepdims=True), rtol=1e-12)
    ax = plot.attention_map(run, 3, axes())
    shown = np.asarray(ax.collections[0].get_array()).reshape(20, -1)
    np.testing.assert_array_equal(shown, phi[1:].reshape(-1, 20).T)
    dots = ax.lines[0].get_ydata()
    np.testing.assert_array_equal(dots, np.arange(4) * 5 + run.problem.scores.argmax(1) + 0.5)
    with pytest.raises(ValueError, match="lane: expected 0 to 39; got 40"):
        plot.attention_map(run, 40)
    with pytest.raises(ValueError, match="logits kept"):
        plot.attention_map(dataclasses.replace(run, logits=None))
    assert "no finite logits" in words(plot.attention_map(without(run, logits=True), 0, axes()))


def test_leads_are_those_of_the_selected_tokens(runs):
    ax = plot.gaps(runs[1], axes(), lane=3)
    final = np.sort(runs[1].final_logits[3], axis=-1)
    drawn = sorted(line.get_ydata()[-1] for line in ax.lines[:4])
    np.testing.assert_allclose(drawn, np.sort(final[:, -1] - final[:, -2]), rtol=1e-12)
    assert "no finite logits" in words(plot.gaps(without(runs[1], logits=True), axes()))


def test_a_lane_is_drawn_whatever_became_of_it(problem):
    key = jax.random.key(1)
    run = jaxsim.simulate(
        problem, jaxsim.rules.NGD(0.5), jaxsim.init.Gaussian(1.0), key=key, lanes=1, steps=50, keep=["logits"]
    )
    assert f"lane 0, NGD 0.5: {run.verdict[0]}" in plot.lane(run).get_suptitle()
    failed = without(run, logits=True, norm=True, log10_grad_norm=True, final_logits=True, direction_error=True)
    figure = plot.lane(failed)
    assert "nonfinite" in figure.get_suptitle()
    assert sum("no finite" in words(ax) for ax in figure.axes) >= 5


def test_geometry_prints_its_numbers_and_frames_the_nearest():
    values = np.array([[0.9, 0.5, np.nan], [np.nan] * 3])
    found = jaxsim.simulation.Geometry(
        ["NGD(eta=0.1)", "GD(eta=1.0)"],
        ["frobenius", "l1", "linf"],
        values,
        values,
        np.array([4, 0]),
        4,
        ["NGD 0.1", "GD 1.0"],
    )
    ax = plot.geometry(found, axes())
    assert [text.get_text() for text in ax.texts] == ["0.90", "0.50", "–", "–", "–", "–"]
    assert [patch.get_xy() for patch in ax.patches] == [(-0.5, -0.5)]
    assert ax.get_yticklabels()[1].get_text() == "GD 1.0 (0 of 4 saturated)"
    nothing = dataclasses.replace(found, margin_ratio=np.full((2, 3), np.nan))
    assert "no lane has saturated" in plot.geometry(nothing, axes()).get_title(loc="left")


def test_horizons_show_the_law_and_its_constant():
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    how = dict(init=jaxsim.init.Gaussian(0.3), key=jax.random.key(1), lanes=8)
    gd = jaxsim.simulate(problem, jaxsim.rules.GD(1.0), steps=10**9, **how)
    ngd = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), steps=500, **how)
    figure = plot.horizons([gd, ngd])
    left, middle, right = figure.axes
    assert left.get_xscale() == "log" and len(left.lines) == len(middle.lines) == 2 and len(right.lines) == 2
    curve, constant = right.lines
    late = gd.steps > 1
    assert np.allclose(curve.get_ydata(), np.median(gd.direction_error * np.log(np.maximum(gd.steps, 1)), 0)[late])
    assert np.isclose(constant.get_ydata()[0], np.median(gd.asymptote().predicted))
    assert words(right) == "predicted limit"


def test_figures_show_themselves_in_notebooks(runs):
    assert plot.trajectories(runs)._repr_png_().startswith(b"\x89PNG")

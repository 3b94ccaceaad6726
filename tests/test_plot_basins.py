"""Figures of initialisation space show the numbers of the results."""

import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import jaxsim
from jaxsim import basins, plot
from jaxsim.analysis import wilson
from jaxsim.cli.basin import _multiples


@pytest.fixture(scope="module")
def problem():
    return jaxsim.data.unit_sphere(jax.random.key(2), n=4, T=4, d=6)


@pytest.fixture(scope="module")
def maps(problem):
    space = basins.random_plane(problem, jax.random.key(0))
    rules = jaxsim.rules.NGD(0.1), jaxsim.rules.GD(1.0)
    return [basins.basin_map(problem, rule, space, resolution=(16, 12), steps=300) for rule in rules]


def test_maps_paint_verdicts(maps):
    ax = plot.basin_map(maps[0])
    picture = ax.images[0].get_array()
    green = (np.abs(picture - to_rgb(plot.VERDICT_COLOURS["global"])) < 1e-9).all(2)
    np.testing.assert_array_equal(green, maps[0].verdict == 0)
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert any(t.startswith("global") and f"{maps[0].shares()['global']:.1%}" in t for t in texts)
    times = plot.time_map(maps[0]).images[0].get_array()
    np.testing.assert_array_equal(times.mask, maps[0].time < 0)
    both = plot.maps(maps, "unit sphere")
    shown = next(a for a in both.axes if len(a.images) == 2).images[1].get_array()
    np.testing.assert_array_equal(shown[..., 3] > 0, basins.disagreement(*maps))


def test_a_selection_has_one_colour_and_a_step_one_shade_in_all_panels(problem, maps):
    space = basins.random_plane(problem, jax.random.key(0))
    polyak = basins.basin_map(problem, jaxsim.rules.Polyak(), space, resolution=(16, 12), steps=300)
    figure, painted = plot.maps([maps[0], polyak], "unit sphere"), []
    for legend in filter(None, (ax.get_legend() for ax in figure.axes)):
        names = [text.get_text().rsplit("  ")[0] for text in legend.get_texts()]
        painted.append(dict(zip(names, (patch.get_facecolor() for patch in legend.get_patches()), strict=True)))
    first, second = painted
    assert any(name.startswith("local") for name in first.keys() & second.keys())
    assert all(first[name] == second[name] for name in first.keys() & second.keys())
    assert len(set((first | second).values())) == len(first | second)
    times = [image.norm for ax in figure.axes for image in ax.images if image.get_array().ndim == 2]
    assert len(times) == 2 and (times[0].vmin, times[0].vmax) == (times[1].vmin, times[1].vmax)
    title = next(ax.get_title(loc="left") for ax in figure.axes if "other verdict" in ax.get_title(loc="left"))
    for too in (False, True):
        assert f"on {basins.disagreement(maps[0], polyak, selections=too).mean():.1%}" in title


def test_maps_along_a_number_and_the_dimension_of_their_borders(problem):
    space = basins.random_plane(problem, jax.random.key(0))
    coarse = basins.basin_map(problem, jaxsim.rules.NGD(0.1), space, resolution=(12, 12), steps=300)
    side, best = 150, (coarse.selections == problem.optimal).all(1)
    number = np.where(np.arange(side) < 60, np.flatnonzero(best)[0], np.flatnonzero(~best)[0])
    straight = np.repeat(number[None].astype(np.int32), side, axis=0)
    fine = dataclasses.replace(
        coarse, a=np.arange(side) / side, b=np.arange(side) / side, selection_number=straight,
        time=straight, computed=straight >= 0,
        verdict=np.where(straight == np.flatnonzero(best)[0], 0, 2).astype(np.int8),
    )  # fmt: skip
    figure = plot.borders([coarse, fine], [0.5, 2.0], "step size over 2/λ")
    first, second, below = figure.axes
    assert second.get_title() == "2: 40.0% global" and below.get_xlabel() == "step size over 2/λ"
    picture = second.images[0].get_array()
    green = np.array(to_rgb(plot.VERDICT_COLOURS["global"]))
    np.testing.assert_allclose(picture[0, 0], green)
    assert (picture[0, -1] > 0.6).all() and not np.allclose(picture[0, -1], picture[0, 0])  # transient: pale
    lines = [bar.lines[0] for bar in below.containers]
    for line in lines:  # of the coarse map too few pixels are on a border
        np.testing.assert_allclose(line.get_xydata(), [[2.0, 1.0]], atol=1e-9)
    with pytest.raises(ValueError, match="against: expected a number above 0 for each of 2 maps; got \\[1\\]"):
        plot.borders([coarse, fine], [1])


def test_maps_past_the_edge_on_the_command_line(tmp_path):
    asked = [
        "--edge",
        "4,1",
        "--plane",
        "random",
        "--resolution",
        "4",
        "--steps",
        "20",
        "--n",
        "3",
        "-T",
        "3",
        "-d",
        "4",
    ]
    command = [sys.executable, "-m", "jaxsim", "basin", *asked, "--out", "maps"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    maps = [basins.BasinMap.load(tmp_path / "maps" / f"map-{k}-gd.npz") for k in range(2)]
    etas = [found.settings["rule_data"]["eta"] for found in maps]
    assert etas[1] == pytest.approx(4 * etas[0])
    space = basins.Plane(maps[0].origin, maps[0].axes, maps[0].names, maps[0].directions)
    assert etas[0] == pytest.approx(basins.stable_step(maps[0].problem, space), rel=1e-4)  # of float32
    assert (tmp_path / "maps" / "figure.png").exists()
    with pytest.raises(ValueError, match="edge: expected no --rule and no --versus beside it; got 'gd=1'"):
        _multiples("1", "gd=1", None)
    with pytest.raises(ValueError, match="edge: expected numbers above 0, such as 1,4,16; got '0,1'"):
        _multiples("0,1", "ngd=0.1", None)


def test_every_rule_has_a_colour_of_its_own():
    names = [
        *jaxsim.rules.RULES,
        *jaxsim.rules.MATRIX_RULES,
        "clipped",
        "per-block",
        "decayed",
        "sam",
        "mine",
        "another",
        "a third",
    ]
    assert len({plot.colour(name) for name in names}) == len(names)
    assert all(len(to_rgb(plot.colour(name))) == 3 for name in names) and plot.colour("mine") == plot.colour("mine")


def test_a_map_on_which_nothing_settled_says_so(problem):
    space = basins.random_plane(problem, jax.random.key(0))
    found = basins.basin_map(problem, jaxsim.rules.GD(1e-6), space, window=(-1, 1, -1, 1), resolution=(4, 4), steps=2)
    assert "no pixel saturated" in [t.get_text() for t in plot.time_map(found).texts]
    assert plot.basin_map(found).get_legend().get_texts()[0].get_text() == "unresolved  100.0%"


def test_curves_and_tables(problem):
    key = jax.random.key(1)
    shells = [basins.shells(problem, rule, [1, 4, 2], key=key, lanes=64, steps=100)
              for rule in (jaxsim.rules.NGD(0.1), jaxsim.rules.GD(1.0))]  # fmt: skip
    ax = plot.shells(shells)
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 4]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [shells[0].fractions()[k].value for k in (0, 2, 1)])
    assert ax.lines[0].get_color() == plot.RULE_COLOURS["ngd"] and ax.lines[1].get_color() == plot.RULE_COLOURS["gd"]

    rule, law = jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(1.0)
    along = basins.continuation(
        lambda share: (basins.flip_labels(problem, share, key), rule, law), [0.0, 0.5],
        name="noise", key=key, lanes=50, steps=300,
    )  # fmt: skip
    ax = plot.continuation(along)
    top = ax.collections[0].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(100 * max(p.value for p in along.fractions()))
    assert ax.get_xlabel() == "noise"
    layers = (len(ax.collections) + 1) // 2  # and a band on the upper border of every layer but the last
    for border in (0, layers - 2):
        ends = ax.collections[layers + border].get_paths()[0].vertices[:, 1]
        settled = along.counts.sum(1) if border else along.verdicts[:, 0]
        expected = [p for count in settled for p in (wilson(int(count), 50).low, wilson(int(count), 50).high)]
        assert {round(float(v), 9) for v in ends} == {round(100 * v, 9) for v in expected}

    runs = [jaxsim.simulate(problem, r, law, key=key, lanes=80, steps=300) for r in (rule, jaxsim.rules.Polyak())]
    found = basins.compare(*runs)
    texts = [t.get_text() for t in plot.comparison(found).texts]
    assert sorted(texts) == sorted(f"{c:,}" for c in found.table[found.table.any(1) | found.table.any(0)][
        :, found.table.any(1) | found.table.any(0)].ravel())  # fmt: skip

    near = basins.smallest_perturbation(
        problem, rule, runs[0].start[:6], key=key, reach=10.0, directions=4, rounds=0, steps=100
    )
    ax = plot.robustness(near)
    drawn = np.concatenate([line.get_xdata() for line in ax.lines])
    np.testing.assert_array_equal(np.sort(drawn), np.sort(near.size[np.isfinite(near.size)]))

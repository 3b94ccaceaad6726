"""Planes and spheres in a study: maps and shells that resume, equal to those of `jaxsim.basins`."""

import jax
import numpy as np
import pytest
from study_files import SPHERE, small

import jaxsim
from jaxsim import basins
from jaxsim import study as studies
from jaxsim.analysis import VERDICTS
from jaxsim.study import audit
from jaxsim.study.engines import Here

PROBLEM = {"family": "unit-sphere", "n": 4, "T": 4, "d": 6, "seeds": 2}
WINDOW = [-20.0, 20.0, -15.0, 15.0]
LOCAL = [3, 2, 0, 2]  # where half of the starts end
NGD = jaxsim.rules.NGD(0.1)


def planes(**changes):
    """Two planes of 16 x 12 pixels under one rule."""
    laws = [
        {"law": "random-plane", "window": WINDOW, "resolution": [16, 12], "seeds": 1},
        {"law": "limits-plane", "selection": LOCAL, "window": WINDOW, "resolution": [16, 12]},
    ]
    content = dict(
        steps=1000, record=[10, 100, 1000], shard=32, problem=[PROBLEM], init=laws,
        rule=[{"name": "ngd", "eta": 0.1}], stop={"lanes": 192}, dtype="float64", limits="saturated",
    )  # fmt: skip
    return small(**content | changes)


class Tires(Here):
    """Breaks off after a few shards."""

    def outcomes(self, wait):
        found = super().outcomes(wait)
        if found and found[0].task.shard == 4:
            raise KeyboardInterrupt
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("planes") / "study"
    with pytest.raises(KeyboardInterrupt):
        studies.run(planes(), place, engine=Tires)
    with pytest.raises(ValueError, match=r"cell: \d+ of the 192 pixels of cell 1 have run"):
        studies.basin_map(jaxsim.open_study(place), 1)
    studies.run(planes(), place)
    return place


@pytest.mark.parametrize("cell", [0, 1])
def test_an_interrupted_map_is_that_of_basin_map(folder, cell, tmp_path):
    problem = jaxsim.data.unit_sphere(jax.random.key(2), n=4, T=4, d=6)
    plane = (basins.random_plane(problem, jax.random.key(1)), basins.limits_plane(problem, LOCAL))[cell]
    whole = basins.basin_map(
        problem, NGD, plane, window=tuple(WINDOW), resolution=(16, 12), steps=1000, record=[10, 100, 1000],
        dtype="float64",
    )  # fmt: skip
    found = studies.basin_map(jaxsim.open_study(folder), cell)
    np.testing.assert_array_equal(found.a, whole.a)
    np.testing.assert_array_equal(found.axes, whole.axes)
    np.testing.assert_array_equal(found.time, whole.time)
    settled = whole.verdict < VERDICTS.index("transient")
    np.testing.assert_array_equal(np.where(settled, found.verdict, 9), np.where(settled, whole.verdict, 9))
    np.testing.assert_array_equal(found.selections[found.selection_number], whole.selections[whole.selection_number])
    for number in np.unique(whole.selection_number[settled]):
        mine = found.selections.tolist().index(whole.selections[number].tolist())
        assert found.limit_norm[mine] == pytest.approx(whole.limit_norm[number], rel=1e-12)
        assert found.locally_optimal[mine] == whole.locally_optimal[number]
    assert len(np.unique(whole.verdict)) > 1 and settled.mean() > 0.8
    found.save(tmp_path / "map.npz")
    np.testing.assert_array_equal(basins.BasinMap.load(tmp_path / "map.npz").labels, found.labels)


def test_pixels_have_shares_and_no_intervals(folder):
    reader = jaxsim.open_study(folder)
    found = reader.fractions()
    assert np.isfinite(found["fraction"]).all() and np.isnan(found["low"]).all() and np.isnan(found["high"]).all()
    share = studies.basin_map(reader, 0).shares()["global"]
    assert found["fraction"].sel(verdict="global").values[0, 0, 0] == pytest.approx(share, abs=1e-12)
    assert np.isnan(reader.watched()[1]).all()
    assert audit.verify(folder, sample=2).different == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stop": {"lanes": 96}}, "^stop.lanes: expected 192, one per pixel of random-plane; got 96"),
        ({"stop": {"half_width": 0.1}}, "^stop.lanes: expected 192, one per pixel of random-plane; got half_width"),
        ({"init": [{"law": "random-plane", "resolution": [1, 192]}]}, r"init\[0\].resolution: expected at least 2"),
        ({"init": [{"law": "random-plane", "resolution": [192]}]}, r"init\[0\].resolution\[0\]: expected at least 2"),
        (
            {"init": [{"law": "random-plane", "window": [1, 1, 0, 1], "resolution": [16, 12]}]},
            r"init\[0\].window: expected a first < a last",
        ),
        (
            {"init": [{"law": "limits-plane", "selection": [0, 1], "resolution": [16, 12]}]},
            r"init\[0\].selection: expected",
        ),
    ],
)
def test_planes_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        planes(**changes)


def test_shells_of_a_study_are_its_lanes(tmp_path):
    study = small(problem=[SPHERE], init=[{"law": "gaussian"}, {"law": "sphere", "radius": [0.1, 8.0]}])
    studies.run(study, tmp_path / "study")
    reader = jaxsim.open_study(tmp_path / "study")
    found = studies.shells(reader, rule=1)
    assert found.radii.tolist() == [0.1, 8.0] and found.settings["rule"] == "NGD(eta=0.2)"
    np.testing.assert_array_equal(found.counts.sum(1), reader.counts[[3, 5]])
    lanes = reader.table(5).to_table().to_pandas()
    for number, alpha in enumerate(found.selections.tolist()):
        here = [s.tolist() == alpha for s in lanes["selection"]]
        assert [sum(lanes["verdict"][here] == name) for name in VERDICTS] == found.counts[1, number].tolist()
    low = reader.fractions().sel(verdict="global")["low"].values[0, 1:, 1]
    np.testing.assert_allclose([p.low for p in found.fractions("global")], low, atol=1e-12)
    found.save(tmp_path / "shells.npz")
    np.testing.assert_array_equal(basins.Shells.load(tmp_path / "shells.npz").counts, found.counts)
    with pytest.raises(ValueError, match="cell: expected one whose law is a plane; the law of cell 0 is gaussian"):
        studies.basin_map(reader, 0)
    with pytest.raises(ValueError, match="rule: expected 0 to 1; got 2"):
        studies.shells(reader, rule=2)

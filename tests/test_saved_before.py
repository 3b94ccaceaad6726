"""Files that were written before the results got a room of their own are still read: runs, basins, folders, studies."""

import pathlib
import shutil

import numpy as np
import pytest
from test_replay import here

import jaxsim

DATA = pathlib.Path(__file__).parent / "data"
OLD = DATA / "saved-before"


@pytest.mark.parametrize(
    ("name", "train", "curves", "finals"),
    [
        ("run", "weights", set(), set()),
        ("joint", "joint", {"log10_loss", "decoder_norm", "decoder_direction_error", "decoder_margin_gap"},
         {"decoder", "decoder_limit_norm", "final_scores"}),
        ("key-query", "keyquery", {"effective_rank", "nuclear_direction_error"}, {"K", "Q", "nuclear_limit_norm"}),
    ],
)  # fmt: skip
def test_runs(name, train, curves, finals, tmp_path):
    run = jaxsim.Run.load(OLD / f"{name}.npz")
    assert run.lanes == 6 and run.settings["train"] == train and run.label == run.settings["rule"]
    assert set(run.more_curves) == curves and set(run.more) == curves | finals
    assert sum(p.count for p in run.fractions().values()) == 6
    table = run.to_pandas()
    assert curves <= set(table) and (table["verdict"] == run.verdict).all()
    assert run.W(3).shape == run.problem.W_shape and run.summary()["rate"]["law"] in ("power", "inverse-log")
    run.save(tmp_path / "again.npz")
    again = jaxsim.Run.load(tmp_path / "again.npz")
    for field in ("norm", "final_logits", "logits", "coeffs", "start"):
        np.testing.assert_array_equal(getattr(again, field), getattr(run, field))
    assert again.settings.keys() == run.settings.keys()
    with pytest.raises(ValueError, match="path: expected a new file; .* exists; overwrite=True replaces it"):
        run.save(tmp_path / "again.npz")
    run.save(tmp_path / "again.npz", overwrite=True)


def test_given_starts_are_lifted_as_they_were_given():
    run = jaxsim.Run.load(OLD / "run.npz")
    given = np.random.default_rng(0).standard_normal((6, 5, 5))
    inside = run.frame.lift(run.start[2])
    np.testing.assert_allclose(inside + run.settings["given"][2], given[2], atol=1e-12)


def test_basins():
    found = jaxsim.basins.BasinMap.load(OLD / "map.npz")
    assert found.verdict.shape == (4, 6) and found.shares()["global"] == np.mean(found.verdict == 0)
    edges = jaxsim.basins.Edges.load(OLD / "edges.npz")
    states = jaxsim.basins.edge_states(edges, jaxsim.rules.NGD(0.1), stretches=2)
    assert states.xi.shape == (2, 2, edges.inside.shape[1])
    with pytest.raises(ValueError, match="rule: expected the rule of the edges"):
        jaxsim.basins.edge_states(edges, jaxsim.rules.NGD(0.2), stretches=2)


def test_a_folder_is_reported_and_replayed(tmp_path):
    place = tmp_path / "folder"
    shutil.copytree(OLD / "folder", place)
    text = jaxsim.report.write(place).read_text(encoding="utf-8")
    assert "NGD(eta=0.5)" in text and "Polyak(scale=1" in text
    assert here("replay", "folder", "--lane", 3, "--rule", "ngd", "--out", "lane", cwd=tmp_path) == 0
    whole, lane = jaxsim.Run.load(place / "run-unit-sphere-0-ngd.npz"), jaxsim.Run.load(tmp_path / "lane" / "run.npz")
    np.testing.assert_allclose(lane.final_logits[0], whole.final_logits[3], rtol=1e-9)


def test_a_study_goes_on(tmp_path):
    place = tmp_path / "study"
    shutil.copytree(DATA / "study-format-2", place)
    before = jaxsim.open_study(place)
    assert before.counts.sum() == 160
    content = dict(
        name="old", steps=60, shard=20, problem=[{"family": "unit-sphere", "n": 3, "T": 4, "d": 5}],
        init=[{"law": "gaussian", "scale": [0.5, 2.0]}],
        rule=[{"name": "ngd", "eta": 0.1}, {"name": "gd", "eta": 1.0}], stop={"lanes": 60},
    )  # fmt: skip
    jaxsim.study.run(jaxsim.study.build(**content), place)
    after = jaxsim.open_study(place)
    assert after.counts.sum() == 240 and (after.counts >= before.counts).all()

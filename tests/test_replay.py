"""`jaxsim replay` runs a lane of a saved run again, from the folder alone."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import jaxsim
from jaxsim.cli.replay import records


def command(*arguments, cwd):
    """Through a shell, as users do."""
    return subprocess.run(
        [sys.executable, "-m", "jaxsim", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def here(*arguments, cwd):
    """In this process, to keep it quick; the exit code."""
    from jaxsim import cli

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["jaxsim", *map(str, arguments)])
        patch.setattr("jax.config.update", lambda *_: None)  # this process has its configuration already
        with pytest.raises(SystemExit) as stop:
            cli.main()
    return stop.value.code


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with runs; what they were made from is gone."""
    place = tmp_path_factory.mktemp("runs")
    np.save(place / "w0.npy", np.random.default_rng(0).standard_normal((5, 6, 6)))
    small = ["--data", "unit-sphere", "--n", 3, "-T", 4, "-d", 6, "--steps", 120]
    calls = {
        "plain": ["--lanes", 12, "--rule", "ngd=0.1", "--rule", "ngd=0.5"],
        "given": ["--init", "w0.npy", "--rule", "polyak=1", "--dtype", "float32"],
        "joint": [
            "--lanes",
            12,
            "--train",
            "joint",
            "--batch",
            2,
            "--rule",
            "ngd=0.1",
            "--init",
            "sphere",
            "--scale",
            2,
        ],
    }
    for name, call in calls.items():
        assert here("run", *small, *call, "--out", name, cwd=place) == 0
    (place / "w0.npy").unlink()
    return place


@pytest.mark.parametrize(("name", "rule", "lane"), [("plain", "0.5", 7), ("given", None, 3), ("joint", None, 11)])
def test_a_lane_comes_out_as_it_was_saved(place, name, rule, lane, tmp_path, capsys):
    options = ["--lane", lane, *(["--rule", rule] if rule else []), "--out", "again"]
    if name == "plain":
        done = command("replay", place / name, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        out = done.stdout
    else:
        assert here("replay", place / name, *options, cwd=tmp_path) == 0
        out = capsys.readouterr().out
    run = jaxsim.Run.load(tmp_path / "again" / "run.npz")
    lanes = pd.read_parquet(place / name / "lanes.parquet")
    saved = lanes[(lanes.lane == lane) & (lanes.rule == run.settings["rule"])].iloc[0]
    assert f"verdict {saved.verdict}, as saved" in " ".join(out.split())
    assert run.first == lane
    tolerance = 1e-12 if name != "given" else 1e-5  # of float64 and float32: the lane runs alone
    np.testing.assert_allclose(run.norm[0, -1], saved.norm, rtol=tolerance)
    np.testing.assert_allclose(run.direction_error[0, -1], saved.direction_error, rtol=1e3 * tolerance)
    assert run.steps.tolist() == list(range(121)) and run.logits.shape == (1, 121, 3, 4)
    steps = pd.read_parquet(tmp_path / "again" / "steps.parquet")
    np.testing.assert_array_equal(steps.norm, run.norm[0])
    found = json.loads((tmp_path / "again" / "settings.json").read_text())
    assert found["saved"]["verdict"] == found["replayed"]["verdict"] == saved.verdict
    assert (tmp_path / "again" / "figure.png").stat().st_size > 10_000


def test_another_verdict_is_told(place, tmp_path, capsys):
    folder = tmp_path / "changed"
    folder.mkdir()
    for path in (place / "plain").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    lanes = pd.read_parquet(folder / "lanes.parquet")
    lanes["verdict"] = "infeasible"
    lanes.to_parquet(folder / "lanes.parquet", index=False)
    assert here("replay", folder, "--lane", 0, "--rule", "0.1", "--out", "again", cwd=tmp_path) == 1
    assert "but infeasible in lanes.parquet" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "again" / "figure.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lane", "12"], "lane: expected 0 to 11; got 12"),
        (["--lane", "-1"], "lane: expected 0 to 11; got -1"),
        (["--lane", "0"], "rule: the folder has 2; expected --rule with one of gd=1; ngd=0.5"),
        (["--lane", "0", "--rule", "adam"], "rule: expected one of gd=1; ngd=0.5; got 'adam'"),
        (["--lane", "0", "--rule", "gd"], "rule: expected one of gd=1; ngd=0.5; got 'gd'"),
        (["--lane", "0", "--problem", "digits"], "problem: expected one of unit-sphere; got 'digits'"),
    ],
)
def test_bad_input_is_explained(arguments, message, tmp_path, capsys):
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "settings.json").write_text(
        json.dumps({"lanes": 12, "given": {"rule": ["gd=1", "ngd=0.5"], "init": "zero"}})
    )
    (saved / "summary.json").write_text(json.dumps({"unit-sphere": []}))
    assert here("replay", saved, *arguments, cwd=tmp_path) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == [saved]


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    for content in (None, "{}", "{"):
        if content is not None:
            (tmp_path / "settings.json").write_text(content)
        assert here("replay", tmp_path, "--lane", "0", cwd=tmp_path) == 2
        assert "error replay:" in capsys.readouterr().err


def test_records_are_every_step_or_as_many_as_fit():
    assert records(1999, 10) == list(range(2000))
    many = records(10**6, 10)
    assert many[:1000] == list(range(1000)) and many[-1] == 10**6 and len(many) <= 2000
    assert np.all(np.diff(many) > 0)
    assert len(records(10**6, 10**5)) <= 200

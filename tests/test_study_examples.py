"""The examples that `jaxsim study example NAME` prints: each runs, in small, and its figure can be drawn."""

import re
import tomllib
from importlib import resources

import numpy as np
import pytest
from study_files import jaxsim_command, small

import jaxsim
from jaxsim import plot
from jaxsim import study as studies
from jaxsim.study import quantities

FOLDER = resources.files("jaxsim.study").joinpath("examples")
NAMES = sorted(path.name.removesuffix(".toml") for path in FOLDER.iterdir())


def test_the_examples_are_listed_and_printed(tmp_path):
    code, listed = jaxsim_command("study", "example", "--list", cwd=tmp_path)
    assert code == 0 and [line.split()[0] for line in listed.splitlines()] == NAMES
    assert NAMES == ["geometry", "heads", "label-noise", "next-token", "sharpness", "weight-decay"]
    for name in NAMES:
        assert jaxsim_command("study", "example", name, cwd=tmp_path) == (
            0,
            FOLDER.joinpath(f"{name}.toml").read_text(),
        )
    code, said = jaxsim_command("study", "example", "nothing", cwd=tmp_path)
    assert code == 2 and "name: got 'nothing'; expected one of" in said
    assert all(f"\n  {line}" in said for line in listed.splitlines())
    assert jaxsim_command("study", "example", cwd=tmp_path)[1].startswith("# How often attention ends")


def in_small(text):
    """Few lanes and steps, and of every list of numbers the last two."""
    text = re.sub(r"^(shard|lanes) = \d+", r"\1 = 8", text, flags=re.MULTILINE)
    text = re.sub(r"^steps = \S+", "steps = 60", text, flags=re.MULTILINE)
    text = re.sub(r"^record = .*", "record = [6, 60]", text, flags=re.MULTILINE)
    text = text.replace("seeds = [1, 2]", "seeds = 1")
    return re.sub(r"\[[\d., ]+, ([\d.]+), ([\d.]+)\]", r"[\1, \2]", text)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_and_is_drawn_as_it_says(name, tmp_path):
    text = FOLDER.joinpath(f"{name}.toml").read_text(encoding="utf-8")
    assert studies.build(**tomllib.loads(text)).name == name
    (tmp_path / f"{name}.toml").write_text(in_small(text), encoding="utf-8")
    (command,) = re.findall(r"^#     jaxsim (study run .*)$", text, re.MULTILINE)
    run, draw = (part.split() for part in command.split(" && "))
    assert jaxsim_command(*run, cwd=tmp_path)[0] == 0
    code, said = jaxsim_command(*draw[1:], cwd=tmp_path)
    assert code == 0, said
    assert (tmp_path / name / "figure.png").stat().st_size > 10_000
    assert jaxsim.open_study(tmp_path / name).done.all()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    place = tmp_path_factory.mktemp("quantities") / "s"
    studies.run(small(), place)
    return jaxsim.open_study(place)


def test_medians_and_shares_are_those_of_the_lanes(found):
    told, part = studies.medians(found, "norm"), studies.shares(found, "settled_step", -1.0)
    for cell in range(found.count):
        lanes = found.lanes(cell)
        at = np.unravel_index(cell, (1, 2, 2))
        assert told["value"].values[at] == np.median(lanes["norm"].values.astype(float))
        assert told["low"].values[at] <= told["value"].values[at] <= told["high"].values[at]
        assert part["value"].values[at] == np.mean(lanes["settled_step"].values == -1)
        assert told["lanes"].values[at] == part["lanes"].values[at] == 60
    shown = plot.quantity(told, "radius")
    assert shown.axes[0].get_ylabel() == "median norm"
    assert plot.quantity(part, "radius,eta").axes[0].get_title()


def test_a_study_that_stopped_for_what_it_saw_has_no_intervals_of_medians(tmp_path):
    studies.run(small(stop={"half_width": 0.3, "max_lanes": 60}), tmp_path / "s")
    found = jaxsim.open_study(tmp_path / "s")
    assert studies.medians(found, "norm")["low"].isnull().all()
    assert studies.shares(found, "settled_step", -1)["low"].notnull().all()


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ("nothing", "of: expected one of limit_norm, "), ("verdict", "of: expected one of"),
        ("norm=x", "of: expected a number after norm=; got 'x'"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_told(found, of, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        quantities.named(found, of)


def test_numbers_at_recorded_steps_are_those_of_the_lanes(tmp_path):
    studies.run(small(record=[0, 10, 40]), tmp_path / "s")
    found = jaxsim.open_study(tmp_path / "s")
    told, last = studies.medians(found, "norm", recorded=True), studies.medians(found, "norm")
    part = studies.shares(found, "norm", 0.0, recorded=True)
    steps = found.study.record
    assert told["step"].values.tolist() == steps and told["value"].dims == ("problem", "init", "rule", "step")
    for cell in range(found.count):
        at = np.unravel_index(cell, (1, 2, 2))
        norm = found.lanes(cell)["norm_recorded"].values.astype(float)
        np.testing.assert_array_equal(told["value"].values[at], np.median(norm, axis=0))
        np.testing.assert_array_equal(part["value"].values[at], (norm == 0).mean(0))
    for name in ("value", "low", "high", "lanes"):
        np.testing.assert_array_equal(told[name].values[..., -1], last[name].values)
    by_step = plot.quantity(told, "step")
    assert [ax.get_xlabel() for ax in by_step.axes if ax.get_visible()] == ["step", "step"]
    for line in by_step.axes[0].lines:
        assert line.get_xdata().tolist() == steps
    heat = plot.quantity(told, "radius,step").axes[0]
    assert (heat.get_xlabel(), heat.get_ylabel()) == ("radius", "step")
    assert [text.get_text() for text in heat.get_yticklabels()] == ["0", "10", "40", "60"]
    with pytest.raises(
        ValueError, match="of: expected a number that is kept at recorded steps, .*norm; got 'start_norm'"
    ):
        studies.medians(found, "start_norm", recorded=True)


def test_a_study_of_last_steps_has_no_others(found):
    words = r"against: expected a study with recorded steps, such as record = \[100, 1000\]"
    with pytest.raises(ValueError, match=words):
        quantities.named(found, "norm", recorded=True)
    with pytest.raises(ValueError, match="against: expected one of .*; got 'step'"):
        plot.quantity(quantities.named(found, "norm"), "step")

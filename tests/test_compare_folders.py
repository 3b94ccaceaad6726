"""Folders of runs side by side."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from commands import invoke

import jaxsim
from jaxsim.basins.comparison import paired_difference
from jaxsim.report.comparison import content

SIZE = ["--data", "unit-sphere", "--n", "3", "-T", "3", "-d", "4", "--lanes", "64", "--rule", "ngd=0.1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    for name, further in {"a": [], "b": ["--steps", "80"], "c": ["--seed", "5"], "d": ["--scale", "1"]}.items():
        done = invoke("run", *SIZE, "--steps", "30", *further, "--out", name, cwd=place)
        assert done.code == 0, done.err
    return place


def table(found, title):
    return next(t for t in found.tables if t.title.startswith(title))


def test_settings_that_differ_and_fractions(place):
    found = content([place / "a", place / "b"], "local")
    assert [row[:3] for row in table(found, "Settings").rows] == [["steps", "30", "80"]]
    summaries = [json.loads((place / name / "summary.json").read_text())["unit-sphere"][0] for name in "ab"]
    for row in table(found, "Fractions").rows:
        for cell, summary in zip(row[3:], summaries, strict=True):
            assert cell.startswith(f"{100 * summary['verdicts'][row[2]]['count'] / 64:.1f}%".replace("100.0", "100"))
    assert found.answers[0] == "1 settings differ."


def test_shared_starts_are_paired(place):
    found = content([place / "a", place / "b"], "local")
    (row,) = table(found, "Difference").rows
    verdicts = [pd.read_parquet(place / name / "lanes.parquet").verdict.to_numpy() == "local" for name in "ab"]
    b, c = (int((x & ~y).sum()) for x, y in (verdicts, verdicts[::-1]))
    expected = paired_difference(b, c, 64)
    assert (
        row[4] == f"{100 * expected.value:+.2f}"
        and row[5] == f"[{100 * expected.low:+.2f}, {100 * expected.high:+.2f}]"
    )
    assert row[7] == f"64 pairs, {b + c} discordant" and np.isfinite(float(row[6]))


def test_other_starts_are_not_and_other_problems_not_at_all(place):
    assert table(content([place / "a", place / "d"]), "Difference").rows[0][7] == "64 and 64 lanes, other starts"
    assert table(content([place / "a", place / "c"]), "Difference").rows == []  # another seed is another problem


def test_the_command_prints_and_writes_a_page(place):
    done = invoke("compare", "a", "b", "d", "--to", "page.html", cwd=place)
    assert done.code == 0 and "Settings that differ" in done.out and "page.html" in done.out, done.err
    text = (place / "page.html").read_text()
    assert "jaxsim compare a b d" in text and "McNemar" in text and "<script" not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a"], "folder: expected two folders or more, each once; got a"),
        (["a", "a"], "folder: expected two folders or more"),
        (["a", "missing"], "compare: cannot read 'missing/settings.json'"),
        (["a", "b", "--verdict", "best"], "verdict: expected one of global"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, said, place):
    done = invoke("compare", *arguments, "--to", "none.html", cwd=place)
    assert done.code == 2 and said in done.err and not (place / "none.html").exists()


def test_a_damaged_table_is_named(place, tmp_path):
    shutil.copytree(place / "a", tmp_path / "a")
    (tmp_path / "a" / "lanes.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"compare: cannot read .*lanes.parquet"):
        content([tmp_path / "a", place / "b"])
    assert jaxsim.report.write(place / "a").exists()

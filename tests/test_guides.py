"""The guides of the book print what they say, and the cluster of one of them makes what one process makes."""

import re
import subprocess
import sys

import jax
import numpy as np
import pages
import pytest
from study_files import TOML, contents

import jaxsim
from jaxsim import basins
from jaxsim.plot.borders import border_dimensions

GUIDES = ("steps", "reading", "rule", "neighbours")
MARK = "\x1e"


def blocks(guide):
    """Each block of Python, and what it prints according to the page."""
    text = pages.text(f"notebooks/book/{guide}.md")
    return re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", text, re.DOTALL)


@pytest.mark.parametrize("guide", [pytest.param(g, marks=pytest.mark.slow if g == "steps" else ()) for g in GUIDES])
def test_a_guide_prints_what_it_says(guide, tmp_path):
    pairs = blocks(guide)
    code = "".join(f"{code}\nprint({MARK!r}, end='')\n" for code, _ in pairs)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(MARK)[:-1] == [said for _, said in pairs]


SCATTERED = (-16, -14, 6, 8)  # a window


def past_the_edge(times, window, side, steps=2000):
    """A map of the guide, and the numbers that it tells of it."""
    problem = jaxsim.data.unit_sphere(jax.random.key(2), n=4, T=4, d=6)
    plane, whole = basins.random_plane(problem, jax.random.key(0)), (-20, 20, -20, 20)
    rule = jaxsim.rules.GD(times * basins.stable_step(problem, plane, window=whole))
    how = dict(window=window or whole, resolution=(side, side), steps=steps, dtype="float64")
    found = basins.basin_map(problem, rule, plane, **how)
    return found.shares(), border_dimensions(found)


def rows(times):
    """The numbers of the two tables of the guide about one step size."""
    lines = re.findall(rf"^\| {times} \| (.*) \|$", pages.text("notebooks/book/reading.md"), re.MULTILINE)
    return [[float(number) for number in re.findall(r"\d+\.\d+", line)] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("times", [8, 16])
def test_dimensions_past_the_edge_are_those_of_the_tables(times):
    """Roundings may differ by machine and move pixels, of which there are many near a border that is scattered."""
    soon, late = rows(times)
    shares, (any_selection, of_global) = past_the_edge(times, None, 300)
    assert abs(100 * shares["global"] - soon[0]) < 0.3
    np.testing.assert_allclose((*any_selection, *of_global), soon[1:], rtol=0, atol=0.03)
    shares, (any_selection, _) = past_the_edge(times, None, 130, 10**12)
    np.testing.assert_allclose([100 * shares[name] for name in ("global", "transient")], late[:2], rtol=0, atol=0.5)
    np.testing.assert_allclose(any_selection, late[2:], rtol=0, atol=0.05)


@pytest.mark.slow
def test_what_is_scattered_at_first_is_of_one_kind_in_the_end():
    _, (any_selection, _) = past_the_edge(16, SCATTERED, 200)
    np.testing.assert_allclose(any_selection, (1.77, 1.72, 1.82), rtol=0, atol=0.03)
    assert past_the_edge(16, SCATTERED, 130, 10**12)[0]["global"] == 1


def test_the_script_for_slurm_makes_what_one_process_makes(tmp_path):
    """As it stands it asks Slurm for workers as the page says; with jobs that run here instead, it makes the study."""
    pytest.importorskip("dask_jobqueue")
    ((script, _),) = blocks("cluster")
    (tmp_path / "study.toml").write_text(TOML)
    asked = script.replace(
        "    cluster.scale", "    print(cluster.job_script())\n    raise SystemExit\n    cluster.scale"
    )
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    for line in (
        "#SBATCH -p compute",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH -t 04:00:00",
        "--nthreads 1",
        "--nworkers 4",
    ):
        assert line in said.stdout

    here = script.replace("import SLURMCluster", "import SLURMCluster\nfrom dask_jobqueue.local import LocalCluster")
    here = here.replace("with SLURMCluster(", "with LocalCluster(").replace("processes=4", "processes=1")
    here = (
        here.replace("jobs=10", "jobs=1")
        .replace("cores=4", "cores=1")
        .replace('"study.toml"]', '"study.toml", "--out", "there"]')
    )
    done = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    alone = [sys.executable, "-m", "jaxsim", "study", "run", "study.toml", "--out", "alone"]
    assert subprocess.run(alone, capture_output=True, cwd=tmp_path).returncode == 0
    shards, others = (contents(tmp_path / name)[0] for name in ("alone", "there"))
    assert len(shards) >= 4
    assert shards == others

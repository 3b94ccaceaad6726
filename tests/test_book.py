"""The book builds without a warning, which every reference that leads nowhere is, and names what is public."""

import pathlib
import subprocess
import sys

import pytest

import jaxsim

ROOT = pathlib.Path(__file__).parents[1]


def test_the_book_builds_and_names_everything(tmp_path):
    pytest.importorskip("myst_nb")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees"]
    done = subprocess.run(
        [*command, "-c", ROOT / "notebooks" / "book", ROOT, site], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    text = (site / "notebooks" / "book" / "api.html").read_text()
    rooms = {"basins", "data", "init", "losses", "plot", "report", "rules", "storage", "study", "train"}
    missing = [name for name in jaxsim.__all__ if name not in rooms and f'id="jaxsim.{name}"' not in text]
    assert not missing
    assert all((site / "notebooks" / f"{path.stem}.html").exists() for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert len(list((site / "_images").glob("*.png"))) >= 10  # what the notebooks drew

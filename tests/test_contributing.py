"""The recipes of CONTRIBUTING.md run as they stand there."""

import subprocess
import sys

import pages
import pytest

RECIPES = ["rule", "law", "family", "trained", "experiment"]


def recipe(name):
    return pages.ROOT / "tests" / "recipes" / f"{name}.py"


def test_every_recipe_is_tested():
    assert {path.stem for path in recipe("rule").parent.glob("*.py")} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_page_shows_the_recipe(name):
    assert pages.blocks("CONTRIBUTING.md", "python").count(recipe(name).read_text(encoding="utf-8")) == 1


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_runs(name, tmp_path):
    subprocess.run([sys.executable, "-W", "error", recipe(name)], cwd=tmp_path, check=True)

"""The README and the pages beside the code promise what runs."""

import re
import shlex
import subprocess
import sys

import pages
import pytest
import typer

from jaxsim.cli.commands import app

SIMULATION, BASINS, STUDY, TRAIN = (f"jaxsim/{room}/README.md" for room in ("simulation", "basins", "study", "train"))

# Which test runs which example: page, language, what the block contains. A block marked `py` is shown and not run, and
# the page says so.
EXAMPLES = {
    ("README.md", "python", "jax_enable_x64"): "test_readme.test_the_example_prints_what_the_readme_says",
    ("README.md", "python", "einsum"): "test_readme.test_the_reduction_of_the_readme_is_exact",
    (SIMULATION, "python", "np.savez"): "test_readme.test_the_file_of_the_readme_runs",
    (SIMULATION, "python", "read_parquet"): "test_readme.test_the_file_of_the_readme_runs",
    (SIMULATION, "python", "lane_table"): "test_readme.test_the_survey_of_the_readme_runs",
    (SIMULATION, "python", "steps_to"): "test_readme.test_the_leaps_of_the_page_run",
    (SIMULATION, "python", "jaxsim.sweep"): "test_readme.test_the_sweep_of_the_page_runs",
    ("jaxsim/rules/README.md", "python", "Decayed"): "test_readme.test_the_regularisation_path_of_the_page_runs",
    ("jaxsim/rules/README.md", "python", "SAM"): "test_readme.test_the_aware_starts_of_the_page_are_compared",
    (BASINS, "python", "basins.compare"): "test_readme.test_the_basins_of_the_readme_compare",
    (STUDY, "toml", "random-plane"): "test_study_cli.test_the_plane_of_the_readme_is_mapped",
    (STUDY, "python", "open_study"): "test_study_cli.test_the_readme_reads_the_study",
    (TRAIN, "python", "specialisation"): "test_readme.test_heads_of_the_page_specialise_from_large_starts",
    ("CONTRIBUTING.md", "python", "class Clipped"): "test_contributing.test_the_recipe_runs",
    ("CONTRIBUTING.md", "python", "class Ball"): "test_contributing.test_the_recipe_runs",
    ("CONTRIBUTING.md", "python", "def leader"): "test_contributing.test_the_recipe_runs",
    ("CONTRIBUTING.md", "python", "class Entropy"): "test_contributing.test_the_recipe_runs",
    ("CONTRIBUTING.md", "python", "Result("): "test_contributing.test_the_recipe_runs",
}


def run(code, **options):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_regularisation_path_of_the_page_runs():
    code, output = re.search(  # type: ignore[union-attr]
        r"```python\n(import jax, jaxsim\n.*?)```\n\n```text\n(.*?)```", pages.text("jaxsim/rules/README.md"), re.DOTALL
    ).groups()
    assert run(code) == output


def test_the_aware_starts_of_the_page_are_compared():
    """Counts may differ by machine where a lane is near a border; what is said of them may not."""
    code = pages.block("jaxsim/rules/README.md", "python", "SAM")
    code += "here = [run.fractions()['global'] for run in (ngd, *aware)]\n"
    code += "assert here[3].high < here[0].low and here[0].value < here[2].value and len(against.only_first) > 300\n"
    number = re.compile(r"\s*\d[\d.]*")
    assert number.sub("#", run(code)) == number.sub("#", pages.block("jaxsim/rules/README.md", "text", "only under"))


def test_the_example_prints_what_the_readme_says():
    code, output = re.search(  # type: ignore[union-attr]
        r"```python\n(.*?)```\n\n```text\n(.*?)```", pages.text("README.md"), re.DOTALL
    ).groups()
    assert run(code) == output


def test_the_reduction_of_the_readme_is_exact():
    first, second = re.findall(r"\d+\.\d+", run(pages.block("README.md", "python", "einsum")))
    assert first == second


def test_ci_runs_the_readme_test_command():
    commands = pages.block("README.md", "sh", "pip install").splitlines()
    assert len(commands) == 2
    assert commands[1] in (pages.ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_file_of_the_readme_runs(tmp_path):
    run(pages.block(SIMULATION, "python", "np.savez"), cwd=tmp_path)
    arguments = ["run", "--data", "mine.npz", "--lanes", "8", "--steps", "20", "--out", "jaxsim-run-001"]
    subprocess.run([sys.executable, "-m", "jaxsim", *arguments], cwd=tmp_path, check=True, capture_output=True)
    run(pages.block(SIMULATION, "python", "read_parquet"), cwd=tmp_path)


def test_the_survey_of_the_readme_runs(tmp_path):
    code = pages.block("README.md", "python", "jax_enable_x64").replace("steps=5000", "steps=50")
    run(code + pages.block(SIMULATION, "python", "lane_table").replace("10**6", "64"), cwd=tmp_path)
    assert (tmp_path / "lanes.parquet").exists()


def test_the_sweep_of_the_page_runs(tmp_path):
    code = pages.block("README.md", "python", "jax_enable_x64").replace("steps=5000", "steps=50")
    run(code + pages.block(SIMULATION, "python", "jaxsim.sweep").replace("lanes=100", "lanes=8"), cwd=tmp_path)


def test_the_leaps_of_the_page_run(tmp_path):
    code = pages.block("README.md", "python", "jax_enable_x64").replace("steps=5000", "steps=50")
    run(
        code + pages.block(SIMULATION, "python", "steps_to") + "assert far.report['leap_error'].max() < 1e-8",
        cwd=tmp_path,
    )


def test_the_basins_of_the_readme_compare():
    """Counts of Polyak's runs may differ by machine, because its capped steps amplify rounding; the claims may not."""
    start = "import jax\njax.config.update('jax_enable_x64', True)\nimport jaxsim\n"
    code = start + pages.block(BASINS, "python", "basins.compare")
    code += "assert found.p_value < 1e-6 and edges.gap.max() <= 1e-10\n"
    code += "assert found.paired[2] - found.paired[1] < found.unpaired[2] - found.unpaired[1]\n"
    number = re.compile(r"[-+]?\d[\d.e+-]*")
    assert number.sub("#", run(code)) == number.sub("#", pages.block(BASINS, "text", "only NGD"))


def test_heads_of_the_page_specialise_from_large_starts(tmp_path):
    start = "import jax\njax.config.update('jax_enable_x64', True)\nimport jaxsim\n"
    code = start + pages.block(TRAIN, "python", "specialisation").replace("(2, 3, 4)", "(2,)").replace("=400", "=100")
    code += "count = [share['specialised'].count for share in shares]\nassert count[0] == 0 and count[3] > 30\n"
    number = re.compile(r"\d[\d.]*")
    shown = pages.block(TRAIN, "text", "specialised").splitlines(keepends=True)[:11]
    assert number.sub("#", run(code, cwd=tmp_path)) == number.sub("#", "".join(shown))
    assert (tmp_path / "heads.png").exists()


@pytest.mark.parametrize("page", pages.PAGES)
def test_every_example_has_a_test_that_runs_it(page):
    known = {"python", "toml", "sh", "text", "py"}
    assert {language for language, _ in pages.FENCE.findall(pages.text(page))} <= known
    for language in ("python", "toml"):
        for content in pages.blocks(page, language):
            claims = [key for key in EXAMPLES if key[:2] == (page, language) and key[2] in content]
            assert len(claims) == 1, content
            module, test = EXAMPLES[claims[0]].split(".")
            assert f"def {test}(" in (pages.ROOT / "tests" / f"{module}.py").read_text(encoding="utf-8")


def test_every_claimed_example_is_there():
    assert all(any(mark in content for content in pages.blocks(page, kind)) for page, kind, mark in EXAMPLES)


@pytest.mark.parametrize("page", pages.PAGES)
def test_files_named_on_a_page_exist(page):
    for name in re.findall(r"`((?:jaxsim|tests|benchmarks|notebooks)/[\w/.-]*)`", pages.text(page)):
        assert (pages.ROOT / name).exists(), name


@pytest.mark.parametrize("page", pages.PAGES)
def test_links_lead_somewhere(page):
    for target, anchor in pages.links(page):
        assert (pages.ROOT / target).exists(), target
        assert not anchor or anchor in pages.anchors(target), f"{target}#{anchor}"


def test_the_readme_leads_to_every_page():
    assert set(pages.PAGES) - {"README.md"} <= {target for target, _ in pages.links("README.md")}


def commands(page):
    """What the page tells readers to type, in blocks and in the text: each command as a list of words."""
    lines = "\n".join(pages.blocks(page, "sh")).splitlines()
    lines += re.findall(r"`((?:jaxsim|python -m) [a-z][^`]*)`", pages.prose(page))
    for line in lines:
        for command in line.split("&&"):
            yield shlex.split(re.split(r"[|>]", command)[0], comments=True)


@pytest.mark.parametrize("page", [page for page in pages.PAGES if page != "CHANGELOG.md"])
def test_commands_of_a_page_and_their_options_exist(page):
    for words in commands(page):
        if words[:2] == ["python", "-m"]:
            module = pages.ROOT / words[2].replace(".", "/")
            assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), words
        if words[:1] != ["jaxsim"]:
            continue
        command, rest = typer.main.get_command(app), words[1:]
        while hasattr(command, "commands"):
            assert rest and rest[0] in command.commands, words
            command, rest = command.commands[rest[0]], rest[1:]
        options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        asked = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert asked <= options | {"--help"}, words

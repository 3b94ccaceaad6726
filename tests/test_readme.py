"""The README promises what runs."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_prints_what_the_readme_says():
    code, output = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, re.DOTALL).groups()  # type: ignore[union-attr]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == output


def test_ci_runs_the_readme_test_command():
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    commands = next(block for block in blocks if "pip install" in block).splitlines()
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_files_named_in_the_readme_exist():
    for name in re.findall(r"`((?:jaxsim|tests|benchmarks)/[\w/]+(?:\.py)?/?)`", TEXT):
        assert (ROOT / name).exists(), name


def test_the_file_of_the_readme_runs(tmp_path):
    code = next(block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "np.savez" in block)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    arguments = ["run", "--data", "mine.npz", "--lanes", "8", "--steps", "20", "--out", "jaxsim-run-001"]
    subprocess.run([sys.executable, "-m", "jaxsim", *arguments], cwd=tmp_path, check=True, capture_output=True)
    reading = next(block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "read_parquet" in block)
    subprocess.run([sys.executable, "-c", reading], cwd=tmp_path, check=True)


def test_the_survey_of_the_readme_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    code = blocks[0] + next(block for block in blocks if "lane_table" in block).replace("10**6", "64")
    subprocess.run([sys.executable, "-c", code.replace("steps=5000", "steps=50")], cwd=tmp_path, check=True)
    assert (tmp_path / "lanes.parquet").exists()


def test_the_basins_of_the_readme_compare():
    """Counts of Polyak's runs may differ by machine, because its capped steps amplify rounding; the claims may not."""
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    start = "import jax\njax.config.update('jax_enable_x64', True)\nimport jaxsim\n"
    code = start + next(block for block in blocks if "basins.compare" in block)
    code += "assert found.p_value < 1e-6 and edges.gap.max() <= 1e-10\n"
    code += "assert found.paired[2] - found.paired[1] < found.unpaired[2] - found.unpaired[1]\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number = re.compile(r"[-+]?\d[\d.e+-]*")
    printed = re.search(r"```text\n(only NGD.*?)```", TEXT, re.DOTALL).group(1)  # type: ignore[union-attr]
    assert number.sub("#", done.stdout) == number.sub("#", printed)

"""Every notebook runs in a real kernel at small sizes in float32, as on a hosted one, and is stored with pictures."""

import json
import pathlib

import pytest
from make_notebooks import NOTEBOOKS, executed

LARGEST = 400_000  # bytes of a stored notebook


def pictures(notebook):
    """How many pictures each cell shows."""
    return [sum("image/png" in out.get("data", {}) for out in cell.get("outputs", ())) for cell in notebook["cells"]]


def stored(path: pathlib.Path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_kernel_runs_it_and_shows_what_is_stored(path, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSIM_SMALL", "1")
    monkeypatch.delenv("MPLBACKEND")  # a kernel has its own, which shows figures
    assert pictures(executed(path, tmp_path)) == pictures(stored(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_is_stored_as_it_ran(path):
    notebook = stored(path)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(out["output_type"] == "error" or out.get("name") == "stderr" for c in cells for out in c["outputs"])
    assert sum(pictures(notebook)) > 0
    assert path.stat().st_size < LARGEST
    first, second = ("".join(cell["source"]) for cell in cells[:2])
    assert "find_spec" in first and "only-if-needed" in first and "JAXSIM_SMALL" in second


def test_it_installs_from_a_wheel_beside_it_from_a_place_or_from_the_repository(tmp_path, monkeypatch):
    cells = {"".join(stored(path)["cells"][2]["source"]) for path in NOTEBOOKS}
    assert len(cells) == 1  # one way for all
    asked = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("subprocess.run", lambda command, check: asked.append(command))
    monkeypatch.delenv("JAXSIM_FROM", raising=False)
    monkeypatch.chdir(tmp_path)
    exec(*cells, {})
    for name in ("jaxsim_attention-0.1.0-py3-none-any.whl", "jaxsim_attention-0.2.0-py3-none-any.whl", "other.whl"):
        (tmp_path / name).touch()
    exec(*cells, {})
    monkeypatch.setenv("JAXSIM_FROM", "git+https://example.org/a/b")
    exec(*cells, {})
    assert [command[-1] for command in asked] == [
        "..", "jaxsim_attention-0.2.0-py3-none-any.whl", "git+https://example.org/a/b",
    ]  # fmt: skip
    assert all("only-if-needed" in command and "--upgrade" not in command for command in asked)

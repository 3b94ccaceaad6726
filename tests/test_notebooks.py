"""Every notebook runs from top to bottom at small sizes and in float32, as on a hosted one, and has no outputs."""

import json
import pathlib

import pytest

from jaxsim.study.shards import _x64

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.setenv("JAXSIM_SMALL", "1")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert "find_spec" in sources[0] and "only-if-needed" in sources[0] and "JAXSIM_SMALL" in sources[1]
    try:
        with _x64(False):
            exec(compile("\n".join(sources), str(path), "exec"), {})  # our own file
    finally:
        plt.close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_has_no_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)

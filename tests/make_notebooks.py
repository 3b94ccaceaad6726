"""Run every notebook, or those named, in a fresh kernel and store what it shows: python tests/make_notebooks.py."""

import pathlib
import sys

import nbclient
import nbformat

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def executed(path: pathlib.Path, folder: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a fresh kernel that works in `folder`; what only this run knows is left out."""
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


if __name__ == "__main__":
    for notebook in NOTEBOOKS:
        if not sys.argv[1:] or notebook.stem in sys.argv[1:]:
            nbformat.write(executed(notebook, notebook.parent), notebook)
            print(f"{notebook.name}: {notebook.stat().st_size / 1000:.0f} kB", flush=True)

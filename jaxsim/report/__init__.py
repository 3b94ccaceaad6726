"""One self-contained page about the folder of a command, or about results: question and answer, tables, figures."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["write"]

RUN_FILES = ("settings.json", "summary.json", "lanes.parquet")


def write(what: Any, to: str | os.PathLike | None = None) -> Path:
    """Write a page about a folder or about results: question and answer, figures, tables, how to repeat it.

    Everything is taken from what is there; nothing is simulated. The page needs no network and no other file.

    Args:
        what: the folder that a command wrote, `jaxsim run`, `study run`, `basin`, `head`, `geometry`, `replay` or
            `reproduce`; a study may be unfinished. Or a `Run`, several of them, or a mapping from names of problems to
            the runs of each, with the same rules for all.
        to: the file; by default report.html in the folder, which is replaced.

    Returns:
        The path of the file.

    Raises:
        ValueError: where the folder is none of these, or what it holds cannot be read; of results, without `to`.

    Example:
        >>> jaxsim.report.write("jaxsim-run-001")  # doctest: +SKIP
        PosixPath('jaxsim-run-001/report.html')
    """
    from jaxsim._files import write_durably
    from jaxsim.report.html import page

    if isinstance(what, str | os.PathLike):
        place = Path(what)
        text, target = page(_content(place)), place / "report.html" if to is None else Path(to)
    else:
        if to is None:
            raise ValueError("to: expected the name of a file for a page about results; got None")
        text, target = page(_of_results(what)), Path(to)
    write_durably(target, text.encode())
    return target


def _content(folder: Path) -> Any:
    """What the page says about a folder."""
    from jaxsim.report import folders
    from jaxsim.study.manifest import manifests

    if manifests(folder):
        from jaxsim.report.studies import content

        return content(folder)
    if all(os.path.exists(folder / name) for name in RUN_FILES):
        from jaxsim.report.runs import content

        return content(folder)
    reader = folders.reader_of(folder)
    if reader is None:
        raise ValueError(f"report: expected a folder that a command of jaxsim wrote; got {os.fspath(folder)!r}")
    return folders.held(reader, folder)


def _of_results(what: Any) -> Any:
    """What the page says about runs, by way of the folder that a command would have written."""
    from jaxsim import storage
    from jaxsim.report.runs import content
    from jaxsim.results import Run

    if isinstance(what, Run):
        what = [what]
    if isinstance(what, Sequence) and not isinstance(what, str):
        what = {"problem": what}
    groups = {str(name): list(runs) for name, runs in what.items()} if isinstance(what, Mapping) else {}
    runs = [run for group in groups.values() for run in group]
    if not runs or not all(isinstance(run, Run) for run in runs):
        raise ValueError(f"what: expected a folder, a Run, or runs by problem; got {type(what).__name__}")
    rules = [[run.settings["rule"] for run in group] for group in groups.values()]
    if any(others != rules[0] for others in rules):
        raise ValueError("what: expected the same rules for every problem")
    with tempfile.TemporaryDirectory() as place:
        storage.write(Path(place), groups, {})
        return content(Path(place))

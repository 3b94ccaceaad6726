"""One self-contained page about the folder of a run or a study: question and answer, tables, interactive figures."""

import os
from pathlib import Path

__all__ = ["write"]

RUN_FILES = ("settings.json", "summary.json", "lanes.parquet")


def write(folder: str | os.PathLike, to: str | os.PathLike | None = None) -> Path:
    """Write a page about the folder of a run or a study: question and answer, figures, tables, how to repeat it.

    Everything is taken from what is saved; nothing is simulated. The page needs no network and no other file.

    Args:
        folder: what `jaxsim run` or `jaxsim study run` wrote; a study may be unfinished.
        to: the file; by default report.html in the folder, which is replaced.

    Returns:
        The path of the file.

    Raises:
        ValueError: where the folder holds neither, or what it holds cannot be read.

    Example:
        >>> jaxsim.report.write("jaxsim-run-001")  # doctest: +SKIP
        PosixPath('jaxsim-run-001/report.html')
    """
    from jaxsim._files import write_durably
    from jaxsim.report.html import page
    from jaxsim.study.manifest import manifests

    place = Path(folder)
    if manifests(place):
        from jaxsim.report.studies import content
    elif all(os.path.exists(place / name) for name in RUN_FILES):
        from jaxsim.report.runs import content
    else:
        raise ValueError(
            f"report: expected a folder that `jaxsim run` or `jaxsim study run` wrote; got {os.fspath(folder)!r}"
        )
    text = page(content(place))
    target = place / "report.html" if to is None else Path(to)
    write_durably(target, text.encode())
    return target

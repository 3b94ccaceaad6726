"""The results folder of a run: settings, environment, tables, curves and a figure. Nothing is overwritten."""

import contextlib
import importlib
import itertools
import json
import os
import platform
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsim import _files
from jaxsim.data.files import save as save_problem
from jaxsim.init import Given
from jaxsim.results import CURVES, Heads, Run

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

PACKAGES = ("jaxsim-attention", "jax", "jaxlib", "numpy", "scipy", "optax", "cvxpy", "pandas", "pyarrow")
STARTS = "starts.npy"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@contextlib.contextmanager
def claim(path: str | os.PathLike | None, kind: str = "run") -> Iterator[Path]:
    """Make the results folder before the work starts, so that no other run can take it and nothing is lost at the end.

    Args:
        path: a new or empty folder; None for the next free jaxsim-KIND-NNN here.
        kind: what the folder is for.

    Raises:
        ValueError: where the folder is not empty, is a file or cannot be made. If the work fails, what was written into
            the folder is removed, and so is the folder if it was made here.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = _free(kind, stack) if path is None else _given(Path(path), stack)
        except OSError as error:
            raise ValueError(f"out: cannot make the folder {os.fspath(path or '.')!r}: {error.strerror}") from error
        stack.enter_context(_files.together())
        yield folder


def _free(kind: str, stack: contextlib.ExitStack) -> Path:
    """The next free name here."""
    for k in itertools.count(1):
        folder = Path(f"jaxsim-{kind}-{k:03d}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            stack.enter_context(_files.undone(folder.rmdir))
            return folder
    raise AssertionError


def _given(folder: Path, stack: contextlib.ExitStack) -> Path:
    if folder.is_dir():
        if any(folder.iterdir()):
            raise ValueError(f"out: expected a new or empty folder; {os.fspath(folder)!r} exists and is not empty")
        return folder
    stack.enter_context(_files.folders(folder.parent))
    folder.mkdir()
    stack.enter_context(_files.undone(folder.rmdir))
    return folder


@contextlib.contextmanager
def lane_table(path: str | os.PathLike) -> "Iterator[Callable[[pandas.DataFrame], None]]":
    """A Parquet file written table by table, in constant memory; it appears under its name only when it is complete.

    Args:
        path: the file; an existing one is refused.

    Raises:
        ValueError: where the file exists or cannot be written.

    Example:
        >>> with lane_table("lanes.parquet") as write:  # doctest: +SKIP
        ...     jaxsim.survey(problem, rule, law, key=key, lanes=10**6, steps=1000, each=write)
    """
    import pyarrow
    import pyarrow.parquet

    target = Path(path)
    if target.exists():
        raise ValueError(f"path: expected a new file; {os.fspath(path)!r} exists")
    if not target.parent.is_dir():
        raise ValueError(f"path: cannot write {os.fspath(path)!r}: there is no such folder")
    writer: Any = None
    try:
        with contextlib.ExitStack() as stack:

            def add(table: "pandas.DataFrame") -> None:
                nonlocal writer
                rows = pyarrow.Table.from_pandas(table, preserve_index=False)
                if writer is None:
                    file = stack.enter_context(_files.whole(target))
                    writer = stack.enter_context(pyarrow.parquet.ParquetWriter(file, rows.schema))
                writer.write_table(rows)

            yield add
    except OSError as error:
        raise ValueError(f"path: cannot write {os.fspath(path)!r}: {error.strerror or error}") from error


def get_ready() -> None:
    """Import what writing needs, in a thread of its own: it takes seconds, in which something can run."""
    slow = ("pandas", "pyarrow.parquet", "matplotlib.backends.backend_agg", "jaxsim.plot")
    threading.Thread(target=lambda: [importlib.import_module(name) for name in slow], daemon=True).start()


def write(folder: Path, groups: Mapping[str, Sequence[Run]], settings: Mapping[str, Any], full: bool = False) -> None:
    """Write the results of one command: groups of runs by problem name.

    Args:
        folder: an empty folder, such as `claim` makes.
        groups: problem name to its runs.
        settings: the command's options; what they do not say of lanes, rules and law is taken from the runs.
        full: also write every run's arrays, to be read by `Run.load`.
    """
    from jaxsim import plot

    first = next(iter(groups.values()))
    known = {"lanes": first[0].lanes, "rule": [r.settings["rule"] for r in first], "init": first[0].settings["init"]}
    settings = known | dict(settings)
    summary = {name: [run.summary() for run in runs] for name, runs in groups.items()}
    write_json(folder, settings=settings, environment=environment(), summary=summary)
    everything = [(name, run) for name, runs in groups.items() for run in runs]
    for file, table in (("lanes", Run.to_pandas), ("curves", curves), ("selections", selections)):
        _write_table(folder / f"{file}.parquet", _stack(everything, table))
    for name, runs in groups.items():
        save_problem(runs[0].problem, problem_file(folder, name))
    if full:
        for k, (name, run) in enumerate(everything):
            run.save(folder / f"run-{slug(name)}-{k}-{run.settings['rule_name']}.npz")
    write_figure(folder / "figure.png", plot.overview(groups))


def write_starts(folder: Path, law: Any) -> None:
    """Keep starts that were given as an array, so that `jaxsim replay` needs nothing but the folder."""
    if isinstance(law, Given):
        with _files.whole(folder / STARTS) as file:
            np.save(file, law.W0)


def problem_file(folder: Path, name: str) -> Path:
    """Where the problem of that name lies."""
    return folder / f"problem-{slug(name)}.npz"


def write_replay(folder: Path, run: Run, settings: Mapping[str, Any]) -> None:
    """Write one lane at full recording: settings, environment, a table of steps, the run and a figure.

    Args:
        folder: an empty folder, such as `claim` makes.
        run: one lane, with its logits kept.
        settings: what was replayed, and what came of it.
    """
    import pandas as pd

    from jaxsim import plot

    write_json(folder, settings=settings, environment=environment(), summary=run.summary())
    columns = {name: getattr(run, name)[0] for name in CURVES}
    columns |= {name: values[0] for name, values in run.more_curves.items()}
    _write_table(folder / "steps.parquet", pd.DataFrame({"step": run.steps, **columns}))
    run.save(folder / "run.npz")
    write_figure(folder / "figure.png", plot.lane(run))


def write_heads(folder: Path, found: Heads, settings: Mapping[str, Any]) -> None:
    """Write a `Heads`: settings, environment, one row per pair, rule and lane, curves and a figure.

    Args:
        folder: an empty folder, such as `claim` makes.
        found: what `heads` returned.
        settings: the command's options.
    """
    from jaxsim import plot

    write_json(folder, settings=settings, environment=environment())
    _write_table(folder / "lanes.parquet", found.to_pandas())
    _write_table(folder / "curves.parquet", found.curves_table())
    write_figure(folder / "figure.png", plot.heads(found))


def write_figure(path: Path, figure: "Figure") -> None:
    """Write a figure in the format that the name's ending says, a PNG where it has none.

    Raises:
        ValueError: where matplotlib does not know the ending.
    """
    with _files.whole(path) as file:
        figure.savefig(file, dpi=120, format=path.suffix[1:] or "png")


def write_json(folder: Path, **contents: Any) -> None:
    """Write NAME.json for each name and content."""
    for name, content in contents.items():
        text = json.dumps(content, indent=2, default=str, allow_nan=False)
        _files.write_durably(folder / f"{name}.json", f"{text}\n".encode())


def _write_table(path: Path, table: "pandas.DataFrame") -> None:
    with _files.whole(path) as file:
        table.to_parquet(file, index=False)


def curves(run: Run) -> "pandas.DataFrame":
    """Quantiles over lanes of each recorded quantity at each recorded step, over the lanes where it is finite."""
    import pandas as pd

    rows = []
    for quantity, values in ({name: getattr(run, name) for name in CURVES} | run.more_curves).items():
        for r, step in enumerate(run.steps):
            sound = values[np.isfinite(values[:, r]), r]
            points = np.quantile(sound, QUANTILES) if len(sound) else np.full(len(QUANTILES), np.nan)
            names = (f"q{int(100 * q):02d}" for q in QUANTILES)
            rows.append(
                {
                    "step": step.item(),
                    "quantity": quantity,
                    "lanes": len(sound),
                    **dict(zip(names, points, strict=True)),
                }
            )
    return pd.DataFrame(rows)


def selections(run: Run) -> "pandas.DataFrame":
    """The distinct final selections: tokens, lanes, norm and status of the limit, local optimality."""
    import pandas as pd

    return pd.DataFrame(
        {
            "selection_number": np.arange(len(run.selections)),
            "selection": [alpha.tolist() for alpha in run.selections],
            "lanes": np.bincount(run.selection_number, minlength=len(run.selections)),
            "limit_norm": run.limit_norm,
            "limit_status": run.limit_status,
            "locally_optimal": run.locally_optimal,
            "support_tokens": run.support.sum((1, 2)),
        }
    )


def environment() -> dict[str, Any]:
    """Versions and devices, for the record."""
    import jax

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": [str(device) for device in jax.local_devices()],
        "device_kind": jax.local_devices()[0].device_kind,
        "packages": versions,
    }


def _stack(everything, table) -> "pandas.DataFrame":
    import pandas as pd

    frames = []
    for name, run in everything:
        frame = table(run)
        frame.insert(0, "rule", run.settings["rule"])
        frame.insert(0, "problem", name)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def slug(name: str) -> str:
    """A name as part of the name of a file."""
    return "-".join("".join(c if c.isalnum() else " " for c in name).split()).lower()

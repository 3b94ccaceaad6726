"""The results folder of a run: settings, environment, tables, curves and a figure. Nothing is overwritten."""

import contextlib
import itertools
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsim.data.files import save as save_problem
from jaxsim.head import Heads
from jaxsim.init import Given
from jaxsim.results import CURVES, Run

if TYPE_CHECKING:
    import pandas

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
        ValueError: where the folder is not empty, is a file or cannot be made. If the work fails, a folder that was
            made here and is still empty is removed.
    """
    folder, made = _make(path, kind)
    try:
        yield folder
    except BaseException:
        if made and not any(folder.iterdir()):
            folder.rmdir()
        raise


def _make(path: str | os.PathLike | None, kind: str) -> tuple[Path, bool]:
    try:
        if path is None:
            for k in itertools.count(1):
                with contextlib.suppress(FileExistsError):
                    Path(f"jaxsim-{kind}-{k:03d}").mkdir()
                    return Path(f"jaxsim-{kind}-{k:03d}"), True
        folder = Path(path)  # type: ignore[arg-type]
        if folder.is_dir():
            if any(folder.iterdir()):
                raise ValueError(f"out: expected a new or empty folder; {os.fspath(folder)!r} exists and is not empty")
            return folder, False
        folder.mkdir(parents=True)
        return folder, True
    except OSError as error:
        raise ValueError(f"out: cannot make the folder {os.fspath(path or '.')!r}: {error.strerror}") from error


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
    part = target.with_name(target.name + ".part")
    with contextlib.ExitStack() as stack:
        writer: Any = None

        def add(table: "pandas.DataFrame") -> None:
            nonlocal writer
            rows = pyarrow.Table.from_pandas(table, preserve_index=False)
            if writer is None:
                writer = stack.enter_context(pyarrow.parquet.ParquetWriter(part, rows.schema))
            writer.write_table(rows)

        try:
            yield add
            stack.close()
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ValueError(f"path: cannot write {os.fspath(path)!r}: {error.strerror or error}") from error
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    if writer is not None:
        part.rename(target)


def write(folder: Path, groups: Mapping[str, Sequence[Run]], settings: Mapping[str, Any], full: bool = False) -> None:
    """Write the results of one command: groups of runs by problem name.

    Args:
        folder: an empty folder, such as `claim` makes.
        groups: problem name to its runs.
        settings: the command's options.
        full: also write every run's arrays, to be read by `Run.load`.
    """
    from jaxsim import plot

    summary = {name: [run.summary() for run in runs] for name, runs in groups.items()}
    _write_json(folder, settings=settings, environment=environment(), summary=summary)
    everything = [(name, run) for name, runs in groups.items() for run in runs]
    _stack(everything, Run.to_pandas).to_parquet(folder / "lanes.parquet", index=False)
    _stack(everything, curves).to_parquet(folder / "curves.parquet", index=False)
    _stack(everything, selections).to_parquet(folder / "selections.parquet", index=False)
    for name, runs in groups.items():
        save_problem(runs[0].problem, problem_file(folder, name))
    if full:
        for k, (name, run) in enumerate(everything):
            run.save(folder / f"run-{_slug(name)}-{k}-{run.settings['rule_name']}.npz")
    plot.overview(groups).savefig(folder / "figure.png", dpi=120)


def write_starts(folder: Path, law: Any) -> None:
    """Keep starts that were given as an array, so that `jaxsim replay` needs nothing but the folder."""
    if isinstance(law, Given):
        np.save(folder / STARTS, law.W0)


def problem_file(folder: Path, name: str) -> Path:
    """Where the problem of that name lies."""
    return folder / f"problem-{_slug(name)}.npz"


def write_replay(folder: Path, run: Run, settings: Mapping[str, Any]) -> None:
    """Write one lane at full recording: settings, environment, a table of steps, the run and a figure.

    Args:
        folder: an empty folder, such as `claim` makes.
        run: one lane, with its logits kept.
        settings: what was replayed, and what came of it.
    """
    import pandas as pd

    from jaxsim import plot

    _write_json(folder, settings=settings, environment=environment(), summary=run.summary())
    columns = {name: getattr(run, name)[0] for name in CURVES}
    columns |= {name: values[0] for name, values in run.more_curves.items()}
    pd.DataFrame({"step": run.steps, **columns}).to_parquet(folder / "steps.parquet", index=False)
    run.save(folder / "run.npz")
    plot.lane(run).savefig(folder / "figure.png", dpi=120)


def write_heads(folder: Path, found: Heads, settings: Mapping[str, Any]) -> None:
    """Write a `Heads`: settings, environment, one row per pair, rule and lane, curves and a figure.

    Args:
        folder: an empty folder, such as `claim` makes.
        found: what `heads` returned.
        settings: the command's options.
    """
    from jaxsim import plot

    _write_json(folder, settings=settings, environment=environment())
    found.to_pandas().to_parquet(folder / "lanes.parquet", index=False)
    found.curves_table().to_parquet(folder / "curves.parquet", index=False)
    plot.heads(found).savefig(folder / "figure.png", dpi=120)


def _write_json(folder: Path, **contents: Any) -> None:
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(
            json.dumps(content, indent=2, default=str, allow_nan=False) + "\n", encoding="utf-8"
        )


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
                {"step": int(step), "quantity": quantity, "lanes": len(sound), **dict(zip(names, points, strict=True))}
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


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name).split()).lower()

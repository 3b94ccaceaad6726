"""`jaxsim replay`: one lane of a saved run, again and alone, at full recording."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from jaxsim._check import written_steps
from jaxsim._text import counted, marked
from jaxsim.cli.console import Console
from jaxsim.cli.options import Asked, asked_rule, named_law, training
from jaxsim.cli.table import where

if TYPE_CHECKING:
    from jaxsim.results import Run

MOST_RECORDS = 2000
RECORD_BYTES = 2**28
PROBLEM_HELP = "Where the folder has several: the name of one, or a part that only one has."
RULE_HELP = "Where the folder has several: NAME=STEP as given to jaxsim run, or a part that only one has."
OUT_HELP = "New or empty folder (default: next jaxsim-replay-NNN)."


def replay(
    folder: Annotated[Path, typer.Argument(help="What `jaxsim run` wrote.")],
    lane: Annotated[int, typer.Option(help="Which lane, from 0, as in lanes.parquet.")],
    problem: Annotated[str | None, typer.Option(help=PROBLEM_HELP)] = None,
    rule: Annotated[str | None, typer.Option(help=RULE_HELP)] = None,
    out: Annotated[Path | None, typer.Option(help=OUT_HELP)] = None,
) -> None:
    """Run one lane of a saved run again, record every step, draw it, and say whether the verdict is the saved one.

    Exit code 1 where it is another one.
    """
    import jax

    from jaxsim import storage
    from jaxsim.report import saved as files

    path = folder / "settings.json"
    settings = files.read_json(path, "replay")
    if "given" not in settings:
        raise ValueError(f"replay: expected a folder that `jaxsim run` wrote; {os.fspath(path)!r} does not say how")
    files.hold(files.Asked, settings, path, "replay")
    problems = list(files.read_json(folder / "summary.json", "replay"))
    if not problems:
        raise ValueError(f"replay: {os.fspath(folder / 'summary.json')!r}: expected at least one problem; got none")
    count = settings["lanes"]
    if not 0 <= lane < count:
        raise ValueError(f"lane: expected 0 to {count - 1}; got {lane}")
    name, text = _one_of("problem", problem, problems), _one_of("rule", rule, settings["given"]["rule"])
    files.hold(files.How, settings, path, "replay")
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_enable_x64", settings["dtype"] == "float64")

    work, named = prepared(folder, settings, name, text, lane)
    saved = _saved(folder, name, named, lane)
    with storage.claim(out, "replay") as target:
        run = again(work, settings, lane)
        found = {
            "folder": os.fspath(folder), "problem": name, "rule": named, "lane": lane,
            "saved": saved, "replayed": {"verdict": str(run.verdict[0]), "norm": float(run.norm[0, -1])},
            "command": shlex.join(["jaxsim", *sys.argv[1:]]),
        }  # fmt: skip
        storage.write_replay(target, run, found)
    _show(run, name, lane, saved, target)
    if run.verdict[0] != saved["verdict"]:
        raise typer.Exit(1)


def prepared(folder: Path, settings: dict[str, Any], name: str, text: str, lane: int) -> tuple[dict[str, Any], str]:
    """What `simulate` takes, and the name of the rule in the folder; an error names the file."""
    from jaxsim import data, storage
    from jaxsim.simulation import check
    from jaxsim.simulation.options import Options
    from jaxsim.simulation.stepping import leaps

    problem = data.load(storage.problem_file(folder, name))
    start, path = settings["given"]["init"], folder / "settings.json"
    law = _given(folder / storage.STARTS, lane, problem) if start.lower().endswith(".npy") else None
    try:
        asked = asked_rule(text, settings["max_step"], settings["steps"])
        law = law or named_law(start, settings["scale"], settings["lanes"])[0]
        how = {"what": settings["train"]} | {k: settings[k] for k in ("width", "nuclear", "batch", "seed")}
        train = training(**how, heads=settings.get("heads"), problem=problem)
        check(problem, law, 1, settings["loss"], train)
        stepping = settings.get("stepping", "auto")
        leaps(stepping, Options(asked.steps, dtype=settings["dtype"], stepping=stepping).recorded, asked.rule, train)
    except ValueError as error:
        raise ValueError(f"replay: {os.fspath(path)!r}: {error}") from error
    came = {"problem": problem, "rule": asked.rule, "init": law, "train": train} | _came(folder, name, asked)
    return came, asked.named


def _came(folder: Path, name: str, asked: Asked) -> dict[str, Any]:
    """How far the run came, with `--until` less far than was asked for, and what made the steps."""
    from jaxsim.report.saved import read_json

    runs = read_json(folder / "summary.json", "replay")[name]
    told = [run for run in runs if isinstance(run, dict) and run.get("rule") == asked.named]
    run = told[0] if told else {}
    steps = written_steps(str(run["steps"])) if "steps" in run else asked.steps
    return {"steps": steps, "engine": run.get("engine", "xla")}


def _given(path: Path, lane: int, problem: Any) -> Any:
    """The start of a lane from the file of all."""
    from jaxsim import _archive
    from jaxsim.init import Given

    try:
        matrices = _archive.read_array(path)
        if matrices.ndim == 3 and lane >= len(matrices):
            raise ValueError(f"expected a matrix of lane {lane}; got {len(matrices)}")
        law = Given(matrices[lane] if matrices.ndim == 3 else matrices)
        law.check(1, problem.W_shape)
    except ValueError as error:
        raise ValueError(f"replay: cannot read {os.fspath(path)!r}: {error}") from error
    return law


def again(work: dict[str, Any], settings: dict[str, Any], lane: int) -> "Run":
    """The lane alone, with logits and coefficients at every step that fits."""
    import jax

    from jaxsim.simulation import simulate

    return simulate(
        **work, key=jax.random.key(settings["seed"]), lanes=1, first=lane, loss=settings["loss"],
        dtype=settings["dtype"], stepping=settings.get("stepping", "auto"), keep=("logits", "coeffs"),
        record=records(work["steps"], work["problem"].visible.size),
    )  # fmt: skip


def records(steps: int, numbers: int) -> list[int]:
    """Every step where that fits; else the first half of what fits one by one, and then evenly in log k."""
    most = min(MOST_RECORDS, max(100, RECORD_BYTES // (16 * numbers)))
    if steps < most:
        return list(range(steps + 1))
    later = np.unique(np.rint(np.geomspace(most // 2, float(steps), most // 2)))
    return [*range(most // 2), *(min(int(k), steps) for k in later)]


def _one_of(what: str, asked: str | None, names: list[str]) -> str:
    if asked is None and len(names) > 1:
        raise ValueError(f"{what}: the folder has {len(names)}; expected --{what} with one of {'; '.join(names)}")
    if asked is None or asked in names:
        return names[0] if asked is None else asked
    having = [name for name in names if asked.lower() in name.lower()]
    if len(having) != 1:
        raise ValueError(f"{what}: expected one of {'; '.join(names)}; got {asked!r}")
    return having[0]


def _saved(folder: Path, problem: str, rule: str, lane: int) -> dict[str, Any]:
    """The lane's row in the table of lanes."""
    from jaxsim.analysis import VERDICTS
    from jaxsim.report.saved import read_table

    path = folder / "lanes.parquet"
    columns = {"problem": "text", "rule": "text", "lane": "whole", "verdict": "text", "norm": "number"}
    wanted = [("problem", "==", problem), ("rule", "==", rule), ("lane", "==", lane)]
    rows = read_table(path, columns, "replay", wanted)
    if len(rows) != 1:
        raise ValueError(
            f"replay: expected one row of lane {lane}, {problem}, {rule} in lanes.parquet; got {len(rows)}"
        )
    if rows["verdict"].iloc[0] not in VERDICTS:
        raise ValueError(
            f"replay: {os.fspath(path)!r}: verdict: expected one of {', '.join(VERDICTS)}; got "
            f"{rows['verdict'].iloc[0]!r}"
        )
    return {"verdict": str(rows["verdict"].iloc[0]), "norm": float(rows["norm"].iloc[0])}


def _show(run: "Run", name: str, lane: int, saved: dict[str, Any], target: Path) -> None:
    console, verdict, norm = Console(), str(run.verdict[0]), float(run.norm[0, -1])
    console.print(
        f"{name}, {run.settings['rule']}, lane {lane}: {counted(run.steps[-1])} steps, {len(run.steps):,} records",
        style="bold", highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip
    if verdict != saved["verdict"]:
        console.print(
            f"verdict {verdict}, but {marked(saved['verdict'])} in lanes.parquet: another machine or version may round "
            "otherwise near a border; compare environment.json of both folders.",
            style="red", highlight=False, soft_wrap=True,
        )  # fmt: skip
    else:
        same = norm == saved["norm"] or (np.isnan(norm) and np.isnan(saved["norm"]))
        apart = "the same number" if same else f"{abs(norm / saved['norm'] - 1):.1e} apart"
        console.print(f"verdict {verdict}, as saved; ‖W‖ at the end {norm:.6g}, {apart}", highlight=False)
    tokens = " ".join(str(t) for t in run.selection[0])
    console.print(f"tokens selected: {tokens}", highlight=False, soft_wrap=True)
    where(target)

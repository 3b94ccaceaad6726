"""Folders of `jaxsim run` side by side: settings that differ, fractions, and paired tests where starts are shared."""

import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsim._check import one_of
from jaxsim.analysis import VERDICTS
from jaxsim.analysis.intervals import KINDS
from jaxsim.basins.comparison import paired_difference, unpaired_difference
from jaxsim.report import saved
from jaxsim.report.content import Content, Table, interval, number, percent

LANES = {"problem": "text", "rule": "text", "lane": "whole", "verdict": "text", "start_norm": "number"}
UNTOLD = ("command", "given", "out", "cache", "cores", "memory", "full")  # settings that change no number
SHOWN = ("global", "local", "transient", "unresolved")


@dataclasses.dataclass(frozen=True)
class _Side:
    """What a folder holds: settings, runs by problem and rule, verdicts and sizes of the starts, and its problems."""

    name: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    runs: dict[tuple[str, str], dict[str, Any]]
    lanes: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
    problems: dict[str, str]


def content(folders: Sequence[Path], verdict: str = "global") -> Content:
    """What the page says.

    Args:
        folders: at least two, which `jaxsim run` wrote.
        verdict: whose fractions are held against each other.

    Raises:
        ValueError: where a folder cannot be read, is given twice, or there is only one.
    """
    one_of("verdict", verdict, VERDICTS)
    names = [os.fspath(folder) for folder in folders]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"folder: expected two folders or more, each once; got {', '.join(names) or 'none'}")
    sides = [_side(Path(name), name) for name in names]
    differing, tests = _settings(sides), _tests(sides, verdict)
    answers = [
        f"{len(differing.rows)} settings differ." if differing.rows else "All settings are the same.",
        *(" ".join(row[:2]) + f": {row[2]} less {row[3]}, {row[4]} points {row[5]}, {row[7]}." for row in tests.rows),
    ]
    return Content(
        title=f"jaxsim compare: {', '.join(names)}",
        question=f"What differs between these runs, and how do their fractions of {verdict} lanes?",
        answers=answers, cells=None, interval=KINDS["wilson"], settings={}, environment=sides[0].environment,
        command=" ".join(["jaxsim compare", *names]), tables=[differing, _fractions(sides), tests],
    )  # fmt: skip


def _side(folder: Path, name: str) -> _Side:
    from jaxsim.data import load
    from jaxsim.storage import problem_file

    settings, environment = (
        saved.read_json(folder / f"{part}.json", "compare") for part in ("settings", "environment")
    )
    saved.hold(saved.Settings, settings, folder / "settings.json", "compare")
    summary = saved.read_summary(folder / "summary.json", "compare")
    table = saved.read_table(folder / "lanes.parquet", LANES, "compare")
    columns = {column: table[column].to_numpy() for column in LANES}
    runs = {(problem, run["rule"]): run for problem, every in summary.items() for run in every}
    lanes = {}
    for problem, rule in runs:
        here = (columns["problem"] == problem) & (columns["rule"] == rule)
        order = np.argsort(columns["lane"][here], kind="stable")
        lanes[problem, rule] = columns["verdict"][here][order], columns["start_norm"][here][order].astype(float)
    problems = {problem: load(problem_file(folder, problem)).fingerprint() for problem in summary}
    return _Side(name, settings, environment, runs, lanes, problems)


def _settings(sides: Sequence[_Side]) -> Table:
    names = list(dict.fromkeys(key for side in sides for key in side.settings if key not in UNTOLD))
    rows = []
    for name in names:
        values = [str(side.settings.get(name, "–")) for side in sides]
        if len(set(values)) > 1:
            rows.append([name, *values])
    packages = [side.environment.get("packages") or {} for side in sides]
    for name in dict.fromkeys(key for each in packages for key in each):
        values = [str(each.get(name)) for each in packages]
        if len(set(values)) > 1:
            rows.append([f"version of {name}", *values])
    return Table("Settings that differ", ("setting", *(side.name for side in sides)), rows)


def _fractions(sides: Sequence[_Side]) -> Table:
    rows = []
    for key in dict.fromkeys(key for side in sides for key in side.runs):
        for verdict in SHOWN:
            shares = [side.runs[key]["verdicts"][verdict] if key in side.runs else None for side in sides]
            if any(share is not None and share["count"] for share in shares):
                rows.append([*_called(sides, key), verdict, *(_share(share) for share in shares)])
    note = f"95% intervals are {KINDS['wilson']}."
    return Table("Fractions", ("problem", "rule", "verdict", *(side.name for side in sides)), rows, note)


def _called(sides: Sequence[_Side], key: tuple[str, str]) -> tuple[str, str]:
    """The problem, and the short name of the rule."""
    run = next(side.runs[key] for side in sides if key in side.runs)
    return key[0], run.get("label") or key[1]


def _share(share: dict[str, Any] | None) -> str:
    if share is None:
        return "–"
    return f"{percent(share['count'] / share['total'])} {interval(share['low'], share['high'])}"


def _tests(sides: Sequence[_Side], verdict: str) -> Table:
    rows = []
    for first, second in itertools.combinations(sides, 2):
        for key in (key for key in first.runs if key in second.runs):
            if first.problems[key[0]] == second.problems[key[0]]:
                test = _test(first.lanes[key], second.lanes[key], verdict)
                rows.append([*_called(sides, key), first.name, second.name, *test])
    columns = ("problem", "rule", "first", "second", "difference", "95% interval", "p", "lanes")
    note = (
        f"First less second, fractions of {verdict} lanes in points. Paired where every lane began at a start of the "
        "same norm in both: an interval from the discordant pairs, and McNemar's exact test; else of independent "
        "samples, without a test."
    )
    return Table(f"Difference of the fractions of {verdict} lanes", columns, rows, note)


def _test(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], verdict: str
) -> tuple[str, str, str, str]:
    """The difference, its interval, the p-value, and of what."""
    import scipy.stats

    x, y = first[0] == verdict, second[0] == verdict
    if len(x) == len(y) and np.array_equal(first[1], second[1]):
        b, c = int((x & ~y).sum()), int((y & ~x).sum())
        found = paired_difference(b, c, len(x))
        p = float(scipy.stats.binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0
        test, lanes = number(p), f"{len(x):,} pairs, {b + c:,} discordant"
    else:
        found = unpaired_difference(int(x.sum()), len(x), int(y.sum()), len(y))
        test, lanes = "–", f"{len(x):,} and {len(y):,} lanes, other starts"
    value, low, high = (f"{100 * part:+.2f}" for part in (found.value, found.low, found.high))
    return value, f"[{low}, {high}]", test, lanes

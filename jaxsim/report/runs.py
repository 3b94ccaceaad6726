"""The report of a folder that `jaxsim run` wrote, from its tables alone."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsim._text import counted
from jaxsim.analysis import VERDICTS
from jaxsim.analysis.intervals import KINDS
from jaxsim.report import saved
from jaxsim.report.content import Cells, Content, Table, interval, known, number, percent

if TYPE_CHECKING:
    import pandas

QUANTITIES = {  # name in curves.parquet to title and whether it is drawn as a power of ten
    "direction_error": ("direction error", True),
    "log10_attention_gap": ("log10 of the attention gap 1 - φ", False),
    "norm": ("‖W‖", True),
    "log10_gap": ("log10 of the loss gap L - L*", False),
    "log10_grad_norm": ("log10 ‖∇L‖", False),
}
SELECTIONS = 8  # rows per problem and rule
MOST_CURVES = 400
COLUMNS = {  # that are read of each table, and what they hold
    "curves": {
        "problem": "text", "rule": "text", "step": "whole", "quantity": "text", "lanes": "whole",
        "q05": "number", "q50": "number", "q95": "number",
    },
    "selections": {
        "problem": "text", "rule": "text", "selection": "tokens", "lanes": "whole", "limit_norm": "number",
        "limit_status": "text", "locally_optimal": "truth",
    },
}  # fmt: skip


def content(folder: Path) -> Content:
    """Read the folder.

    Raises:
        ValueError: where a file is missing or cannot be read.
    """
    settings, environment = (saved.read_json(folder / f"{name}.json", "report") for name in ("settings", "environment"))
    saved.hold(saved.Settings, settings, folder / "settings.json", "report")
    summary = saved.read_summary(folder / "summary.json", "report")
    problems = list(summary)
    rules = [run["rule"] for run in summary[problems[0]]]
    curves, selections = (_table(folder / f"{name}.parquet", problems, rules) for name in ("curves", "selections"))
    labels = {run["rule"]: _label(run) for run in summary[problems[0]]}
    cells = _cells(problems, rules, summary, settings)
    everything = [(name, run) for name in problems for run in summary[name]]
    steps = everything[0][1]["steps"]
    return Content(
        title=f"jaxsim run: {', '.join(problems)}",
        question=_question(settings, steps),
        answers=[_answer(name, summary[name], cells.rules) for name in problems] + _warnings(everything, steps),
        cells=cells,
        curves=_curves(curves, problems, rules),
        tables=[_numbers(everything), _selections(selections, labels)],
        interval=KINDS["wilson"],
        settings={name: value for name, value in settings.items() if name != "command"},
        environment=environment,
        command=settings.get("command", "jaxsim run"),
    )


def _table(path: Path, problems: list[str], rules: list[str]) -> "pandas.DataFrame":
    """A table about the problems and rules of the summary."""
    table = saved.read_table(path, COLUMNS[path.stem], "report")
    for name, there in (("problem", problems), ("rule", rules)):
        foreign = sorted(set(table[name]) - set(there))
        if foreign:
            raise ValueError(
                f"report: cannot read {os.fspath(path)!r}: {name}: expected those of summary.json; got {foreign[0]!r}"
            )
    return table


def _cells(problems: list[str], rules: list[str], summary: dict[str, Any], settings: dict[str, Any]) -> Cells:
    runs = [run for name in problems for run in summary[name]]

    def column(field: str) -> np.ndarray:
        return np.array([[run["verdicts"][name][field] for name in VERDICTS] for run in runs])

    short = [_label(run) for run in summary[problems[0]]]
    return Cells(
        problems=problems,
        inits=[str(settings.get("init"))],
        rules=short if len(set(short)) == len(short) else rules,
        kinds=[run.get("rule_name") or run["rule"].partition("(")[0].lower() for run in summary[problems[0]]],
        counts=column("count"),
        low=column("low"),
        high=column("high"),
        numbers={},
        watched="global",
        level=runs[0]["verdicts"]["global"]["level"],
    )


def _label(run: dict[str, Any]) -> str:
    """The short name of the rule; older folders have the long one alone."""
    return run.get("label") or run["rule"]


def _question(settings: dict[str, Any], steps: int) -> str:
    lanes = settings["lanes"]
    starts = f"{lanes:,} random starts W₀ ~ {settings['init']}" if lanes > 1 else f"the start W₀ = {settings['init']}"
    return (
        f"From {starts}, on which tokens has attention settled after {counted(steps)} steps: on the optimal token of "
        "every sequence, so that W tends to the max-margin solution W_mm, or on a worse, local choice?"
    )


def _answer(name: str, runs: list[dict[str, Any]], rules: list[str] | Any) -> str:
    found = [run["verdicts"] for run in runs]
    if runs[0]["lanes"] == 1:
        ends = [next(v for v in VERDICTS if f[v]["count"]) for f in found]
        return f"{name}: the one start ended " + ", ".join(f"{e} under {r}" for e, r in zip(ends, rules, strict=True))
    parts = []
    for verdicts, rule in zip(found, rules, strict=True):
        p, local = verdicts["global"], verdicts["local"]["count"]
        text = f"{percent(p['count'] / p['total'])} {interval(p['low'], p['high'])} under {rule}"
        parts.append(text + (f" (local in {percent(local / p['total'])})" if local else ""))
    listed = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    level = found[0]["global"]["level"]
    return f"{name}: attention ended global in {listed}, of {runs[0]['lanes']:,} runs each; {level:.0%} intervals."


def _warnings(everything: list[tuple[str, dict[str, Any]]], steps: int) -> list[str]:
    """What makes the answer less than it looks."""
    found = []
    for name, run in everything:
        who, counts = f"{name}, {_label(run)}", {v: run["verdicts"][v]["count"] for v in VERDICTS}
        if counts["unresolved"] == run["lanes"]:
            found.append(f"{who}: no run has settled within {counted(steps)} steps; more steps may decide.")
        elif counts["unresolved"] + counts["transient"]:
            open_ = counts["unresolved"] + counts["transient"]
            found.append(f"{who}: {open_:,} of {run['lanes']:,} runs may still change with more steps.")
        if counts["nonfinite"]:
            found.append(f"{who}: arithmetic failed in {counts['nonfinite']:,} of {run['lanes']:,} runs (nonfinite).")
    return found


def _curves(table: "pandas.DataFrame", problems: list[str], rules: list[str]) -> list[dict[str, Any]]:
    """Per quantity, problem and rule: steps past 0, lanes, and quantiles over lanes."""
    found = []
    columns: list[str] = ["problem", "rule", "quantity"]
    for names, part in table[table["step"] > 0].groupby(columns, sort=False):
        problem, rule, quantity = map(str, names)  # type: ignore[arg-type]
        title, power = QUANTITIES.get(quantity, (quantity.replace("_", " "), False))
        found.append(
            {
                "problem": problems.index(problem),
                "rule": rules.index(rule),
                "quantity": title,
                "power": power,
                "steps": part["step"].tolist(),
                "lanes": part["lanes"].tolist(),
            }
            | {name: known(np.asarray(part[name])) for name in ("q05", "q50", "q95")}
        )
    return found[:MOST_CURVES]


def _numbers(everything: list[tuple[str, dict[str, Any]]]) -> Table:
    rows = []
    for name, run in everything:
        rate, aligned = run["rate"], run["verdicts_by_direction"]
        law = {"power": "t^{}", "inverse-log": "{} / log t"}[rate["law"]]
        slope, ends = "–", rate.get("refused") or "–"
        if rate["slope"] is not None and not rate.get("refused") and rate["low"] is not None:
            slope, ends = law.format(number(rate["slope"])), f"[{number(rate['low'])}, {number(rate['high'])}]"
        row = [name, _label(run), f"{run['lanes']:,}"]
        row += [f"{aligned[v]['count']:,}" for v in ("global", "local")]
        row += [number(run["median_direction_error"][v]) for v in ("global", "local")]
        row += [number(run[f"median_{v}"]) for v in ("log10_attention_gap", "log10_grad_norm", "norm")]
        rows.append([*row, slope, ends, f"{rate['lanes']:,}", f"{run['distinct_selections']:,}"])
    columns = (
        "problem", "rule", "lanes", "aligned global", "aligned local", "error, global", "error, local",
        "log10(1 - φ)", "log10 ‖∇L‖", "‖W‖", "rate", "rate, 95% interval", "rate, lanes", "selections",
    )  # fmt: skip
    note = (
        "Medians over lanes at the last step. Error: distance of W/‖W‖ from its own max-margin limit. Rate: of the "
        "error over the last decade of steps, the median over lanes with its interval, or why there is none."
    )
    return Table("Convergence", columns, rows, note)


def _selections(table: "pandas.DataFrame", labels: dict[str, str]) -> Table:
    rows, left = [], 0
    for names, part in table.groupby(["problem", "rule"], sort=False):
        problem, rule = map(str, names)  # type: ignore[arg-type]
        largest = part.sort_values("lanes", ascending=False, kind="stable")
        left += max(0, len(largest) - SELECTIONS)
        for row in largest.head(SELECTIONS).to_dict("records"):
            tokens = " ".join(str(t) for t in row["selection"])
            shown = number(row["limit_norm"]) if np.isfinite(row["limit_norm"]) else str(row["limit_status"])
            held = "yes" if row["locally_optimal"] else "no"
            rows.append([problem, labels[rule], tokens, f"{row['lanes']:,}", shown, held])
    note = "The selected token of each sequence; ‖W^α‖ is the norm of the max-margin solution of that selection."
    if left:
        note += f" The largest {SELECTIONS} of each rule; {left:,} smaller ones are in selections.parquet."
    return Table("Where the runs ended", ("problem", "rule", "tokens", "lanes", "‖W^α‖", "locally optimal"), rows, note)

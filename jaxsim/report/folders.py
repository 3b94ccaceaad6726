"""The reports of folders that other commands wrote: their figure, their tables, and how to repeat them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from jaxsim._archive import told
from jaxsim.analysis.verdict import MEANINGS
from jaxsim.report import saved
from jaxsim.report.content import Content, Picture, Table, number

PNG = b"\x89PNG\r\n\x1a\n"
HEAD_COLUMNS = {"pair": "text", "rule": "text", "step": "whole", "quantity": "text", "mean": "number"}


class Row(saved.Part):
    """Of rows.json, one quantity."""

    quantity: str
    recomputed: float | None
    published: float | None
    original: float | None
    note: str
    agrees: bool | None


class Experiment(saved.Part):
    """What rows.json holds."""

    title: str
    source: str
    settings: str
    missing: list[str]
    rows: Annotated[list[Row], Field(min_length=1)]


def reader_of(folder: Path) -> Callable[[Path], Content] | None:
    """What reads the folder; None where no command is known to have written it."""
    if not os.path.isdir(folder):  # where the name can be no folder's, too
        return None
    for pattern, reader in READERS.items():
        if any(folder.glob(pattern)):
            return reader
    return None


def _content(folder: Path, title: str, question: str, answers: list[str], **more: Any) -> Content:
    """With what every folder has."""
    settings, environment = (saved.read_json(folder / f"{name}.json", "report") for name in ("settings", "environment"))
    command = settings.pop("command", None)
    command = command if isinstance(command, str) and command else f"jaxsim {title.split(':')[0]}"
    return Content(
        title=f"jaxsim {title}", question=question, answers=answers, cells=None, interval="", settings=settings,
        environment=environment, command=command, **more,
    )  # fmt: skip


def _picture(path: Path, title: str, words: str) -> Picture:
    try:
        png = path.read_bytes()
        if not png.startswith(PNG):
            raise ValueError("no PNG")
    except (OSError, ValueError) as error:
        raise ValueError(f"report: cannot read {os.fspath(path)!r}: {told(error)}") from error
    return Picture(title, png, words)


def basin(folder: Path) -> Content:
    """What `jaxsim basin` wrote."""
    from jaxsim.basins import BasinMap, disagreement

    maps = [BasinMap.load(path) for path in sorted(folder.glob("map-*.npz"))]
    names = [str(found.settings.get("label", found.settings["rule"])) for found in maps]
    n, T, d = maps[0].problem.shape
    shares = [{name: 100 * share for name, share in found.shares().items()} for found in maps]
    rows = [[name, *(number(share[v]) for v in MEANINGS)] for name, share in zip(names, shares, strict=True)]
    answers = [
        f"{name}: {number(share['global'])}% of the window ends global, {number(share['local'])}% local."
        for name, share in zip(names, shares, strict=True)
    ]
    if len(maps) == 2:
        verdicts, ends = (100 * disagreement(*maps, selections=too).mean() for too in (False, True))
        answers.append(f"Verdicts differ on {number(verdicts)}% of it, verdicts or selections on {number(ends)}%.")
    return _content(
        folder, f"basin: {', '.join(names)}", f"Where do the starts W₀ of one plane go, n={n}, T={T}, d={d}?", answers,
        tables=[Table("Shares of the window", ("rule", *(f"{v} %" for v in MEANINGS)), rows, "; ".join(
            f"{name}: {meaning}" for name, meaning in MEANINGS.items()
        ))],
        pictures=[_picture(folder / "figure.png", "Basins", " ".join(answers))],
    )  # fmt: skip


def geometry(folder: Path) -> Content:
    """What `jaxsim geometry` wrote."""
    from jaxsim.simulation.geometries import Geometry

    tables, answers = [], []
    for path in sorted(folder.glob("geometry-*.npz")):
        found, name = Geometry.load(path), path.stem.removeprefix("geometry-")
        for label, row in zip(found.labels, found.correlation, strict=True):
            if np.isfinite(row).any():
                nearest = int(np.nanargmax(row))
                answers.append(f"{name}, {label}: nearest to {found.norms[nearest]}, correlation {row[nearest]:.3f}.")
        titles = {
            "correlation": "Correlation with the solution of each norm",
            "margin_ratio": "Share of the best margin",
        }
        for quantity, title in titles.items():
            values = zip(found.labels, getattr(found, quantity), strict=True)
            rows = [[label, *map(number, row)] for label, row in values]
            tables.append(Table(f"{name}: {title}", ("rule", *found.norms), rows))
    question = "Which max-margin solution does each rule end nearest to?"
    words = "Margin of W over the best margin in each norm"
    pictures = [_picture(path, words, " ".join(answers)) for path in sorted(folder.glob("figure*.png"))]
    return _content(folder, "geometry", question, answers, tables=tables, pictures=pictures)


def head(folder: Path) -> Content:
    """What `jaxsim head` wrote."""
    table = saved.read_table(folder / "curves.parquet", HEAD_COLUMNS, "report")
    columns = {name: table[name].to_numpy() for name in HEAD_COLUMNS}
    rules, quantities, pairs = (list(dict.fromkeys(columns[name].tolist())) for name in ("rule", "quantity", "pair"))
    steps = int(columns["step"].max())

    def mean(rule: str, quantity: str) -> float:
        here = (columns["step"] == steps) & (columns["rule"] == rule) & (columns["quantity"] == quantity)
        values = columns["mean"][here & np.isfinite(columns["mean"])]
        return float(values.mean()) if len(values) else np.nan

    shown = "test_accuracy" if "test_accuracy" in quantities else "train_accuracy"
    answers = [f"{rule}: {number(100 * mean(rule, shown))}% {shown.replace('_', ' ')}." for rule in rules]
    rows = [[rule, *(number(mean(rule, quantity)) for quantity in quantities)] for rule in rules]
    names = ("rule", *(name.replace("_", " ") for name in quantities))
    note = f"At step {steps:,}: means over {len(pairs)} data sets of means over starts."
    return _content(
        folder, f"head: {len(pairs)} data sets", "What do heads trained on digits come to, rule by rule?", answers,
        tables=[Table("At the last step", names, rows, note)],
        pictures=[_picture(folder / "figure.png", "Along the way", " ".join(answers))],
    )  # fmt: skip


def replay(folder: Path) -> Content:
    """What `jaxsim replay` wrote."""
    told_of = saved.read_json(folder / "summary.json", "report")
    saved.hold(saved.Summary, told_of, folder / "summary.json", "report")
    verdict = next(name for name, share in told_of["verdicts"].items() if share["count"])
    answer = f"{told_of['rule']}: {verdict} after {told_of['steps']:,} steps, ‖W‖ = {number(told_of['median_norm'])}."
    return _content(
        folder, "replay: one lane", "What did one lane do, step by step?", [answer],
        pictures=[_picture(folder / "figure.png", "The lane", answer)],
    )  # fmt: skip


def reproduce(folder: Path) -> Content:
    """What `jaxsim reproduce` wrote, of one experiment or of all."""
    places = [folder] if (folder / "rows.json").exists() else sorted(path.parent for path in folder.glob("*/rows.json"))
    tables, pictures, answers = [], [], []
    for place in places:
        told_of = saved.read_json(place / "rows.json", "report")
        saved.hold(Experiment, told_of, place / "rows.json", "report")
        differ = [row for row in told_of["rows"] if row["agrees"] is False]
        compared = [row for row in told_of["rows"] if row["agrees"] is not None]
        answer = f"{told_of['title']}: {len(compared) - len(differ)} of {len(compared)} published numbers agree."
        rows = [
            [row["quantity"], *(number(row[name]) for name in ("published", "recomputed", "original")),
             {True: "agrees", False: "differs", None: ""}[row["agrees"]], row["note"]] for row in told_of["rows"]
        ]  # fmt: skip
        columns = ("quantity", "published", "recomputed", "original emulated", "", "note")
        note = " ".join([told_of["source"], told_of["settings"], *(f"Not reproduced: {x}" for x in told_of["missing"])])
        tables.append(Table(told_of["title"], columns, rows, note))
        pictures.append(_picture(place / "figure.png", told_of["title"], answer))
        answers.append(answer)
    question = "Do published numbers come out with right gradients?"
    return _content(folder, "reproduce", question, answers, tables=tables, pictures=pictures)


READERS: dict[str, Callable[[Path], Content]] = {
    "steps.parquet": replay,
    "rows.json": reproduce,
    "*/rows.json": reproduce,
    "map-*.npz": basin,
    "geometry-*.npz": geometry,
    "curves.parquet": head,
}


def held(reader: Callable[[Path], Content], folder: Path) -> Content:
    """The content, or a ValueError that names the folder."""
    try:
        return reader(folder)
    except (KeyError, TypeError, IndexError, AttributeError, StopIteration) as error:
        raise ValueError(f"report: cannot read {os.fspath(folder)!r}: {told(error)}") from error

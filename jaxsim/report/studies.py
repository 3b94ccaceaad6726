"""The report of a study's folder, finished or not, from its manifest and, for basin maps, the lanes of planes."""

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from jaxsim import plot
from jaxsim._text import counted
from jaxsim.analysis import VERDICTS
from jaxsim.analysis.intervals import KINDS
from jaxsim.report.content import Cells, Content, Picture, interval, percent
from jaxsim.study import open_study
from jaxsim.study.basins import basin_map
from jaxsim.study.reading import Reader
from jaxsim.study.spec import PARTS, Study

MAPS = 6  # drawn
SHOWN = 10  # damaged files and failed cells named


def content(folder: Path) -> Content:
    """Read the folder.

    Raises:
        ValueError: as `jaxsim.open_study`.
    """
    reader = open_study(folder)
    spec, cells = reader.study, _cells(reader)
    several = {"problem": spec.problems, "law": spec.inits, "rule": spec.rules}
    sizes = " × ".join(f"{len(of):,} {name}{'s' * (len(of) != 1)}" for name, of in several.items())
    return Content(
        title=f"jaxsim study: {spec.name}",
        question=(
            f"In what fraction of starts does attention end {spec.stop.verdict} after {counted(spec.steps)} steps, "
            f"over {sizes} = {reader.count:,} cells?"
        ),
        answers=_answers(reader, cells),
        cells=cells,
        interval=KINDS[spec.stop.interval],
        settings=_settings(spec),
        environment=_environment(reader),
        command="jaxsim study run study.toml --out study",
        file=("study.toml", study_file(spec)),
        pictures=_maps(reader),
        notes=_notes(reader),
    )


def _cells(reader: Reader) -> Cells:
    spec, found = reader.study, reader.fractions()
    width = len(VERDICTS)
    numbers = {}
    for name in found.coords:
        values = found[name]
        if (
            str(name).startswith("init_")
            and name != "init_seed"
            and values.dtype.kind == "f"
            and np.isfinite(values.values).any()
        ):
            numbers[str(name)[5:]] = values.values
    return Cells(
        problems=[p.label for p in spec.problems],
        inits=[i.label for i in spec.inits],
        rules=[r.label for r in spec.rules],
        kinds=[r.kind for r in spec.rules],
        counts=reader.counts,
        low=found["low"].values.reshape(-1, width),
        high=found["high"].values.reshape(-1, width),
        numbers=numbers,
        watched=spec.stop.verdict,
        level=spec.stop.level,
    )


def _answers(reader: Reader, cells: Cells) -> list[str]:
    """Sentences with numbers and intervals about the watched verdict."""
    spec, lanes, k = reader.study, reader.counts.sum(1), VERDICTS.index(cells.watched)
    begun = np.flatnonzero(lanes)
    progress = f"{reader.cells_done:,} of {reader.count:,} cells are done, with {lanes.sum():,} runs in all."
    if len(begun) == 0:
        return ["Nothing has run yet.", progress]
    fraction = reader.counts[begun, k] / lanes[begun]
    low, high = cells.low[begun, k], cells.high[begun, k]

    def told(place: int) -> str:
        cell = begun[place]
        return f"{percent(fraction[place])} {interval(low[place], high[place])} ({cells.label(int(cell))})".replace(
            "  ", " "
        )

    verdict, found = cells.watched, []
    if len(begun) == 1:
        found.append(f"{verdict}: {told(0)}, in the one cell that has run.")
    else:
        found.append(
            f"The fraction {verdict} goes from {told(int(fraction.argmin()))} to {told(int(fraction.argmax()))}."
        )
        above, below, known = (low > 0.5).sum(), (high < 0.5).sum(), np.isfinite(low).sum()
        if known:
            found.append(
                f"Its {cells.level:.0%} interval lies above one half in {above:,} cells and below in {below:,}; in "
                f"{known - above - below:,} it holds one half."
            )
    if np.isnan(low).any():
        found.append("The pixels of a plane are no random draws: their fractions have no intervals.")
    if len(spec.rules) > 1:
        rule = begun % len(spec.rules)
        parts = [
            f"{percent(float(np.median(fraction[rule == r])))} under {cells.rules[r]} ({(rule == r).sum():,} cells)"
            for r in np.unique(rule)[:SHOWN]
        ]
        found.append("Median over cells: " + ", ".join(parts) + ".")
    open_ = reader.counts[:, [VERDICTS.index(name) for name in ("unresolved", "transient")]].sum()
    if open_:
        found.append(f"{open_:,} of {lanes.sum():,} runs have not settled for good within {counted(spec.steps)} steps.")
    return [*found, progress]


def _maps(reader: Reader) -> list[Picture]:
    """The first planes that are complete and sound."""
    from matplotlib.figure import Figure

    found = []
    for index in np.flatnonzero(reader.done):
        cell = reader.cell(int(index))
        if cell.init.pixels is None or reader.damaged or len(found) == MAPS:
            continue
        one = basin_map(reader, cell.index)
        figure = Figure(figsize=(8.5, 5), layout="constrained")
        plot.basin_map(one, figure.add_subplot())
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=90)
        shares = ", ".join(f"{name} {percent(share)}" for name, share in one.shares().items() if share)
        words = f"The verdict of {one.verdict.size:,} starts in a plane: {shares} of the window."
        found.append(Picture(f"cell {index}: {cell.label}", file.getvalue(), words))
    return found


def _notes(reader: Reader) -> list[str]:
    damaged = [f"Damaged: {name} ({why})." for name, why in reader.damaged.items()]
    failed = [f"Failed: cell {cell} ({reader.cell(cell).label}): {why}" for cell, why in reader.failed.items()]
    both = damaged + failed
    return both[:SHOWN] + ([f"And {len(both) - SHOWN:,} more."] if len(both) > SHOWN else [])


def _settings(spec: Study) -> dict[str, Any]:
    plain = spec.model_dump(exclude={"problem", "init", "rule", "stop"})
    return plain | {f"stop.{k}": v for k, v in spec.stop.model_dump().items() if v is not None} | {"hash": spec.hash}


def _environment(reader: Reader) -> dict[str, Any]:
    """The last session's, and when the study was worked on."""
    if not reader.sessions:
        return {}
    stamps = [time.strftime("%Y-%m-%d %H:%M", time.gmtime(s["began"])) + " UTC" for s in reader.sessions]
    return {"sessions": len(stamps), "first begun": min(stamps)} | dict(reader.sessions[-1]["environment"])


def study_file(spec: Study) -> str:
    """The study as a file for `jaxsim study run`. Problem files are named without their folder.

    Its strings, numbers, lists and booleans are written as JSON writes them, which TOML reads alike.
    """

    def written(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{name} = {written(each)}" for name, each in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(written, value)) + "]"
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

    plain = spec.model_dump(exclude_unset=True)
    lines = [f"{name} = {written(value)}" for name, value in plain.items() if name not in (*PARTS, "stop", "sources")]
    for kind in PARTS:
        for entry in plain[kind]:
            lines += ["", f"[[{kind}]]"]
            for name, value in entry.items():
                if value is None or name == "fingerprint":
                    continue
                lines.append(f"{name} = {written(os.path.basename(value) if name == 'path' else value)}")
    lines += ["", "[stop]", *(f"{k} = {written(v)}" for k, v in plain["stop"].items() if v is not None)]
    return "\n".join(lines) + "\n"

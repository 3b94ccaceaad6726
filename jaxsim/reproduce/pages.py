"""Results on disk: figure, arrays and rows of each experiment, and one HTML page over all of them."""

import base64
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxsim import _files
from jaxsim._text import paged
from jaxsim.reproduce.result import Result, Row, number

STYLE = (
    "body{font:16px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "table{border-collapse:collapse;font-size:.85rem;margin:1rem 0}td,th{padding:.25rem .6rem;text-align:right;"
    "border-bottom:1px solid #ddd;vertical-align:top}td:first-child,th:first-child,td:last-child,th:last-child"
    "{text-align:left}th{border-bottom:2px solid #555}tr.differs td{background:#fdf1e7}"
    "img{max-width:100%;height:auto}.quiet{color:#555}"
)
COLUMNS = ("quantity", "published", "recomputed", "original emulated", "", "note")
LEGEND = (
    "Recomputed: with scaled gradients and certified max-margin solutions. Original emulated: the arithmetic of the "
    "published program, run by `jaxsim.reproduce.original` on the same problems. Agreement is within the last digit "
    "published, the accuracy of a figure, or two standard errors, as the note says."
)


def save(result: Result, folder: Path) -> None:
    """Write figure.png, data.npz and rows.json of one experiment into a folder."""
    _files.write_durably(folder / "figure.png", _png(result))
    with _files.whole(folder / "data.npz") as file:
        np.savez_compressed(file, **result.arrays)  # type: ignore[arg-type]
    content = {name: getattr(result, name) for name in ("name", "title", "source", "settings", "missing")}
    content["rows"] = [
        {key: _plain(value) for key, value in dataclasses.asdict(row).items()} | {"agrees": row.agrees}
        for row in result.rows
    ]
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    _files.write_durably(folder / "rows.json", f"{text}\n".encode())


def page(results: Sequence[Result], seconds: Sequence[float], quick: bool) -> str:
    """One self-contained HTML page: no file, script or address outside it is needed."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'><title>Published experiments, run again</title>",
        f"<style>{STYLE}</style></head><body><h1>Published experiments, run again</h1><p>{paged(LEGEND)}</p>",
    ]
    if quick:
        parts.append("<p><strong>Reduced sizes (--quick)</strong>: means over few problems differ by chance.</p>")
    parts.append("<nav><ul>")
    for result in results:
        differ = sum(row.agrees is False for row in result.rows)
        title = f"{result.name}: {result.title} ({differ} of {len(result.rows)} rows differ)"
        parts.append(f"<li><a href='#{paged(result.name)}'>{paged(title)}</a></li>")
    parts.append("</ul></nav>")
    parts += [_section(result, took) for result, took in zip(results, seconds, strict=True)]
    return "\n".join([*parts, "</body></html>\n"])


def _section(result: Result, seconds: float) -> str:
    image = base64.b64encode(_png(result)).decode("ascii")
    head = "".join(f"<th scope='col'>{paged(name)}</th>" for name in COLUMNS)
    missing = "".join(f"<li>{paged(text)}</li>" for text in result.missing)
    return "\n".join([
        f"<section id='{paged(result.name)}'><h2>{paged(result.title)}</h2>",
        f"<p class='quiet'>{paged(result.source)}</p><p>{paged(result.settings)} {seconds:.1f} s.</p>",
        f"<img alt='{paged(describe(result))}' src='data:image/png;base64,{image}'>",
        f"<table><thead><tr>{head}</tr></thead><tbody>",
        *map(_row, result.rows),
        "</tbody></table>",
        f"<p>Not reproduced:</p><ul>{missing}</ul>" if missing else "",
        "</section>",
    ])  # fmt: skip


def describe(result: Result) -> str:
    """What the figure shows, in words: its panels by title, else by axes."""
    panels = []
    for ax in result.figure.axes:
        words = ax.get_title() or ax.get_title("left")
        axes = f"{ax.get_ylabel()} against {ax.get_xlabel()}" if ax.get_xlabel() and ax.get_ylabel() else ""
        if words or axes:
            panels.append(": ".join(part for part in (words, axes) if part))
    return f"Figure of {result.name}. " + "; ".join(panels)


def _row(row: Row) -> str:
    cells = [row.quantity, *map(number, (row.published, row.recomputed, row.original)), mark(row), row.note]
    kind = " class='differs'" if row.agrees is False else ""
    return f"<tr{kind}>" + "".join(f"<td>{paged(cell)}</td>" for cell in cells) + "</tr>"


def mark(row: Row) -> str:
    """Agreement in words."""
    return {True: "agrees", False: "differs", None: ""}[row.agrees]


def _png(result: Result) -> bytes:
    buffer = io.BytesIO()
    result.figure.savefig(buffer, dpi=110, format="png")
    return buffer.getvalue()


def _plain(value):
    """For JSON: NumPy numbers as numbers, what is not finite as None."""
    if isinstance(value, str) or value is None:
        return value
    return float(value) if np.isfinite(value) else None

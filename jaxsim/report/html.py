"""From what a report says to one HTML file that needs nothing else."""

from importlib import resources
from typing import Any

import numpy as np

from jaxsim._text import printable
from jaxsim.analysis.verdict import MEANINGS, PREDICTION
from jaxsim.report import figures
from jaxsim.report.content import Cells, Content


def page(content: Content) -> str:
    """The HTML."""
    import jinja2

    data = {} if content.cells is None else _drawn(content, content.cells)
    files = resources.files("jaxsim.report").joinpath("templates")
    loader = jinja2.FunctionLoader(lambda name: files.joinpath(name).read_text(encoding="utf-8"))
    maker = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_shown
    )
    # Bokeh's items name an object where it comes first and refer to it later, so the order of keys matters.
    maker.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":"), "allow_nan": False}
    return maker.get_template("page.html").render(
        content=content,
        verdicts="; ".join(f"{name}: {meaning}" for name, meaning in MEANINGS.items()) + f". {PREDICTION}",
        data=data,
        library=figures.library() if data else "",
        script=files.joinpath("report.js").read_text(encoding="utf-8") if data else "",
        style=files.joinpath("report.css").read_text(encoding="utf-8"),
        settings=_flat(content.settings),
        environment=_flat(content.environment),
    )


def _drawn(content: Content, cells: Cells) -> dict[str, Any]:
    """What the figures that move are drawn from."""
    positive = all(v > 0 for values in cells.numbers.values() for v in values[np.isfinite(values)])
    data: dict[str, Any] = {"cells": cells.plain(), "curves": list(content.curves), "figures": [figures.bars()]}
    if content.curves or cells.numbers:
        data["figures"].append(figures.lines(log_x=bool(content.curves) or positive))
    return data


def _shown(value: Any) -> Any:
    """What a name becomes before it is escaped: it may hold characters that obey nobody's wish but change the page."""
    return printable(value, keep="\n") if type(value) is str else value


def _flat(values: dict[str, Any], before: str = "") -> dict[str, str]:
    """Nested names joined by dots, values as text; what is not set is left out."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}.")
        elif value is not None:
            found[before + name] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found

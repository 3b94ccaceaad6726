"""Views of a study's lanes and cells as xarray has them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsim.analysis import VERDICTS
from jaxsim.study import cells
from jaxsim.study.choices import Choice
from jaxsim.study.spec import Study

if TYPE_CHECKING:
    import pyarrow
    import xarray


def by_lane(table: "pyarrow.Table", study: Study, cell: int, fractions: "xarray.Dataset") -> "xarray.Dataset":
    """The lanes of one cell, by lane and recorded step, with the fractions of the cell.

    Args:
        table: all columns of the cell's lanes.
        study: theirs.
        cell: its number.
        fractions: of the cell, by verdict.
    """
    import xarray as xr

    variables: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in ("cell", "lane"):
            continue
        if name == "selection":
            width = len(column[0]) if len(column) else 0
            variables[name] = (("lane", "sequence"), column.flatten().to_numpy().reshape(-1, width))
        elif name.endswith("_recorded"):
            values = column.flatten().to_numpy().reshape(-1, len(study.record))
            variables[name] = (("lane", "step"), values)
        elif name.startswith("verdict"):
            variables[name] = ("lane", np.asarray(column.to_pylist(), dtype="U12"))
        elif column.null_count < len(column) or not len(column):
            variables[name] = ("lane", column.to_numpy(zero_copy_only=False))
    for name in ("count", "fraction", "low", "high"):
        variables[f"cell_{name}"] = ("verdict_name", fractions[name].values)
    named: dict[str, Any] = {"lane": table["lane"].to_numpy(), "verdict_name": list(VERDICTS)}
    if len(study.record) > 1:
        named["step"] = study.record
    label = cells.cell_at(study, cell).label
    return xr.Dataset(variables, named, {"cell": cell, "label": label} | dict(fractions.attrs))


def coordinates(choices: Mapping[str, Sequence[Choice]]) -> dict[str, Any]:
    """Labels of the choices, and their numbers as coordinates named dimension_number."""
    found: dict[str, Any] = {}
    for dim, chosen in choices.items():
        found[dim] = [choice.label for choice in chosen]
        found[f"{dim}_kind"] = (dim, [choice.kind for choice in chosen])
        for name in sorted({k for choice in chosen for k, _ in choice.values}):
            values = [choice.shown().get(name) for choice in chosen]
            numbers = all(isinstance(v, int | float | None) for v in values)
            column = [np.nan if v is None else float(v) for v in values] if numbers else list(map(str, values))
            found[f"{dim}_{name}"] = (dim, column)
    return found

"""What else a study says of its lanes by cell: medians of a number, and shares of lanes that have a value of it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsim.analysis import BOUNDS
from jaxsim.analysis.intervals import median_bounds
from jaxsim.study.reading import Reader
from jaxsim.study.views import coordinates

if TYPE_CHECKING:
    import xarray

NO_QUANTITIES = ("cell", "lane")


def medians(reader: Reader, name: str, recorded: bool = False) -> "xarray.Dataset":
    """The median over lanes of what they have at the last step, with its interval, for every cell.

    Lanes of which the number is not known are left out: under `limits = "saturated"` the direction error of those that
    have not settled.

    Args:
        reader: from `jaxsim.open_study`.
        name: a column of the study's table, such as "direction_error", "norm" or "distinct_heads".
        recorded: whether of every recorded step, in a further dimension `step`, and not of the last alone.

    Returns:
        A Dataset with dimensions problem, init and rule: `value`, `low`, `high`, and `lanes` that have the number. The
        interval is two of the values (`jaxsim.analysis.intervals.median_bounds`); NaN of fewer than six lanes, and in a
        study with `half_width`, which stopped for what it saw.

    Raises:
        ValueError: where there is no such number, or it was not recorded.
    """
    values, known = _column(reader, name, recorded), reader.study.stop.interval == "wilson"
    steps = values[0].shape[1]
    rows, lanes = np.full((3, reader.count, steps), np.nan), np.zeros((reader.count, steps), int)
    for (cell, k), _ in np.ndenumerate(lanes):
        finite = values[cell][:, k][np.isfinite(values[cell][:, k])]
        lanes[cell, k] = len(finite)
        if len(finite):
            ends = median_bounds(finite, reader.study.stop.level) if known else (np.nan, np.nan)
            rows[:, cell, k] = np.median(finite), *ends
    return _by_cell(reader, rows, lanes, f"median {name}", "of order statistics", recorded)


def shares(reader: Reader, name: str, value: float, recorded: bool = False) -> "xarray.Dataset":
    """The share of lanes that have one value of a number, with its interval, for every cell.

    Args:
        reader: from `jaxsim.open_study`.
        name: a column of the study's table that counts something, such as "distinct_heads".
        value: the value.
        recorded: as for `medians`.

    Returns:
        A Dataset as that of `medians`, of all lanes, with intervals as those of `Reader.fractions`.

    Raises:
        ValueError: as `medians`.
    """
    values, kind = _column(reader, name, recorded), reader.study.stop.interval
    lanes = np.array([np.full(of.shape[1], len(of)) for of in values])
    count, total = np.array([np.count_nonzero(of == value, axis=0) for of in values]), np.maximum(lanes, 1)
    rows = np.array([count / total, *BOUNDS[kind](count, total, reader.study.stop.level)])
    rows[:, lanes == 0] = np.nan
    return _by_cell(reader, rows, lanes, f"fraction {name} = {value:g}", kind, recorded)


def named(reader: Reader, of: str, recorded: bool = False) -> "xarray.Dataset":
    """The medians of NAME, or of NAME=VALUE the shares of lanes that have it."""
    name, given, text = of.partition("=")
    if not given:
        return medians(reader, name, recorded)
    try:
        return shares(reader, name, float(text), recorded)
    except ValueError as error:
        if str(error).startswith("of:"):
            raise
        raise ValueError(f"of: expected a number after {name}=; got {text!r}") from error


def _column(reader: Reader, name: str, recorded: bool) -> list[np.ndarray]:
    """The numbers of every cell's lanes, (lanes, steps)."""
    import pyarrow as pa

    known = [
        field.name for field in reader.schema
        if field.name not in NO_QUANTITIES and (pa.types.is_floating(field.type) or pa.types.is_integer(field.type))
    ]  # fmt: skip
    if name not in known:
        raise ValueError(f"of: expected one of {', '.join(known)}; got {name!r}")
    column, steps = (f"{name}_recorded", len(reader.study.record)) if recorded else (name, 1)
    if column not in reader.schema.names:
        known = ", ".join(
            other.removesuffix("_recorded") for other in reader.schema.names if other.endswith("_recorded")
        )
        raise ValueError(
            f"of: expected a number that is kept at recorded steps, {known}; got {name!r}" if known else
            "against: expected a study with recorded steps, such as record = [100, 1000]; this one keeps the last alone"
        )  # fmt: skip
    table = reader.table().to_table(columns=["cell", column])
    flat = table[column].combine_chunks().flatten() if recorded else table[column]
    cells, values = table["cell"].to_numpy(), flat.to_numpy().astype(float).reshape(-1, steps)
    order = np.argsort(cells, kind="stable")
    return np.split(values[order], np.searchsorted(cells[order], np.arange(1, reader.count)))


def _by_cell(
    reader: Reader, rows: np.ndarray, lanes: np.ndarray, label: str, kind: str, recorded: bool
) -> "xarray.Dataset":
    import xarray as xr

    study = reader.study
    choices = {"problem": study.problems, "init": study.inits, "rule": study.rules}
    dims, sizes = tuple(choices), [len(chosen) for chosen in choices.values()]
    places = coordinates(choices)
    if recorded:
        dims, sizes = (*dims, "step"), [*sizes, lanes.shape[1]]
        places["step"] = np.array(study.record, float)
    found: dict[str, Any] = {
        key: (dims, row.reshape(sizes))
        for key, row in zip(("value", "low", "high", "lanes"), (*rows, lanes), strict=True)
    }
    told = {"of": label, "interval": kind, "level": study.stop.level, "study": study.hash}
    return xr.Dataset(found, places, told)

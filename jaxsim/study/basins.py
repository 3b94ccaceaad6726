"""Basin maps and shells out of the lanes of a study, in the format in which `jaxsim.basins` makes and saves them."""

from typing import Any

import numpy as np
from jaxtyping import Integer

from jaxsim.analysis import VERDICTS
from jaxsim.analysis.verdict import is_settled
from jaxsim.basins import BasinMap, Shells
from jaxsim.margin import MarginSolver
from jaxsim.rules import label, parameters
from jaxsim.study.choices import build_init, build_rule
from jaxsim.study.reading import Reader


def basin_map(reader: Reader, cell: int) -> BasinMap:
    """The map of a cell whose law is a plane.

    Verdicts of pixels that have not settled are those of the study: under `limits = "saturated"` "unresolved".

    Args:
        reader: from `jaxsim.open_study`.
        cell: its number.

    Raises:
        ValueError: where the law of the cell is no plane, or some of its pixels have not run yet.
    """
    here = reader.cell(cell)
    if here.init.pixels is None:
        raise ValueError(f"cell: expected one whose law is a plane; the law of cell {cell} is {here.init.full}")
    ran = int(reader.counts[cell].sum())
    if ran < here.init.pixels:
        raise ValueError(
            f"cell: {ran:,} of the {here.init.pixels:,} pixels of cell {cell} have run; "
            "the command that began the study goes on"
        )
    found = _lanes(reader, cell, "lane", "settled_step")
    order = np.argsort(found["lane"])
    problem = reader.problem(cell)
    pixels = build_init(here.init, problem)
    plane, shape = pixels.plane, (len(pixels.b), len(pixels.a))
    selections, number = np.unique(found["selection"][order], axis=0, return_inverse=True)
    verdict = found["verdict"][order]
    settled = np.unique(number[is_settled(verdict)])
    norm, locally_optimal = np.full(len(selections), np.nan), np.zeros(len(selections), bool)
    for k, mm in zip(settled, MarginSolver(problem).solve_many(list(selections[settled])), strict=True):
        norm[k], locally_optimal[k] = mm.norm, mm.locally_optimal
    return BasinMap(
        problem, _settings(reader, cell) | {"init": repr(pixels), "lanes": ran, "refine": 0},
        pixels.a, pixels.b, plane.origin, plane.axes, plane.directions, plane.names,
        verdict.reshape(shape), number.astype(np.int32).reshape(shape),
        found["settled_step"][order].reshape(shape), np.ones(shape, bool),
        selections, norm, locally_optimal,
    )  # fmt: skip


def shells(reader: Reader, problem: int = 0, rule: int = 0) -> Shells:
    """P(verdict | ‖W_0‖ = R) at the radii of a study's spheres, by selection.

    Its intervals are Wilson's, so the study has to have a number of lanes fixed beforehand.

    Args:
        reader: from `jaxsim.open_study`.
        problem: number of the problem in the study.
        rule: number of the rule.

    Raises:
        ValueError: for a study with `half_width`, without spheres, or with spheres on which nothing has run.
    """
    spec = reader.study
    for name, k, choices in (("problem", problem, spec.problems), ("rule", rule, spec.rules)):
        if not 0 <= k < len(choices):
            raise ValueError(f"{name}: expected 0 to {len(choices) - 1}; got {k}")
    if spec.stop.lanes is None:
        raise ValueError("reader: expected a study with a fixed number of lanes; this one stops at half_width")
    radii = {k: dict(init.values)["radius"] for k, init in enumerate(spec.inits) if init.kind == "sphere"}
    cells = [(problem * len(spec.inits) + k) * len(spec.rules) + rule for k in radii]
    if not cells or not reader.counts[cells].sum(1).all():
        raise ValueError("reader: expected a study with spheres, all of which have begun")
    found = [_lanes(reader, cell) for cell in cells]
    every = np.concatenate([lanes["selection"] for lanes in found])
    selections, number = np.unique(every, axis=0, return_inverse=True)
    place = np.repeat(np.arange(len(found)), [len(lanes["verdict"]) for lanes in found])
    counts = np.zeros((len(found), len(selections), len(VERDICTS)), np.int64)
    np.add.at(counts, (place, number, np.concatenate([lanes["verdict"] for lanes in found])), 1)
    return Shells(
        reader.problem(cells[0]), _settings(reader, cells[0]), np.array(list(radii.values())), counts, selections
    )


def _lanes(reader: Reader, cell: int, *more: str) -> dict[str, Integer[np.ndarray, "..."]]:
    """Verdicts as places in VERDICTS, selections, and more columns of the lanes of a cell."""
    import pyarrow as pa

    parts = [table.select(["verdict", "selection", *more]) for table in reader.shards(cell)]
    table = pa.concat_tables([reader.schema.empty_table().select(["verdict", "selection", *more]), *parts])
    table = table.combine_chunks()
    found = {name: table[name].to_numpy() for name in more}
    verdict = table["verdict"].unify_dictionaries().combine_chunks()
    place = np.array([VERDICTS.index(name) for name in verdict.dictionary.to_pylist()], np.int8)
    found["verdict"] = place[verdict.indices.to_numpy()]
    flat = table["selection"].combine_chunks().flatten().to_numpy()
    found["selection"] = flat.reshape(table.num_rows, -1).astype(int)
    return found


def _settings(reader: Reader, cell: int) -> dict[str, Any]:
    """How the lanes were made, as plain values."""
    spec, rule = reader.study, build_rule(reader.cell(cell).rule)
    return {
        "rule": repr(rule), "rule_name": rule.name, "label": label(rule), "rule_data": parameters(rule),
        "steps": spec.steps, "loss": spec.loss, "dtype": spec.dtype, "study": spec.hash, "cell": cell,
    }  # fmt: skip

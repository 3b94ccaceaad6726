"""Crossings of a study: where the watched fraction crosses a level along one number that the study sweeps."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from jaxsim.simulation import Crossing, crossing
from jaxsim.study.cells import Cell, key_of
from jaxsim.study.choices import Choice, build_init, build_problem, build_rule, build_train
from jaxsim.study.shards import x64
from jaxsim.study.spec import PARTS, Study


@dataclasses.dataclass(frozen=True)
class Line:
    """Cells of a study that differ in one number alone, and where the fraction crosses the level along it.

    Attributes:
        labels: of problem, law and rule, without the number.
        low, high: between which values of the number it was searched: the smallest and the largest of the study.
        found: the crossing; None where there is none.
        why: why there is none, such as on which side of the level both ends are.
    """

    labels: tuple[str, str, str]
    low: float
    high: float
    found: Crossing | None
    why: str = ""


def crossings(
    study: Study,
    against: str,
    files: Mapping[str, bytes],
    *,
    level: float = 0.5,
    width: float = 0.1,
    linear: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Line]:
    """For all that a study compares, the value of one swept number at which its watched fraction crosses a level.

    Each is searched between the smallest and the largest value that the study gives, by `jaxsim.crossing`, with as many
    lanes at one value as the study has at most in a cell, on the study's terms. Nothing of the study's cells is used.

    Args:
        study: the study.
        against: a number of problems, laws or rules that is no whole number, such as "radius" or "eta"; "init.scale" or
            "rule.scale" where both have one.
        files: contents of the study's problem files, by fingerprint.
        level: the level, between 0 and 1.
        width: how narrow each interval is to be: its ratio less 1, or with `linear` its length.
        linear: whether to halve differences, not ratios.
        progress: called as progress(lines done, lines).

    Raises:
        ValueError: where nothing is swept under this name, or only whole numbers are.
    """
    part, against = _part(study, against)
    groups: dict[Choice, list[float]] = {}
    for choice in getattr(study, f"{part}s"):
        value = dict(choice.values).get(against)
        if isinstance(value, float):
            groups.setdefault(_without(choice, against), []).append(value)
    lines = {choice: values for choice, values in groups.items() if len(set(values)) > 1}
    if not lines:
        raise ValueError(f"against: expected a number of which one choice has several values; got {against!r}")
    options = [list(lines) if name == part else getattr(study, f"{name}s") for name in PARTS]
    chosen = list(itertools.product(*options))
    made: list[Line] = []
    for problem, init, rule in chosen:
        cell = Cell(0, problem, init, rule)
        values = lines[getattr(cell, part)]
        low, high = min(values), max(values)
        labels = (problem.label or problem.full, init.label or init.full, rule.label or rule.full)
        found, why = _searched(study, cell, part, against, low, high, files, level, width, linear)
        made.append(Line(labels, low, high, found, why))
        if progress is not None:
            progress(len(made), len(chosen))
    return made


def _part(study: Study, against: str) -> tuple[str, str]:
    """Whose number it is, "problem", "init" or "rule", and its name."""
    known: dict[str, dict[str, set[float]]] = {}
    for part in PARTS:
        for choice in getattr(study, f"{part}s"):
            for name, value in choice.values:
                if isinstance(value, float):
                    known.setdefault(name, {}).setdefault(part, set()).add(value)
    swept = {name: [part for part, values in parts.items() if len(values) > 1] for name, parts in known.items()}
    of, _, name = against.rpartition(".")
    found = [part for part in swept.get(name, []) if of in ("", part)]
    if len(found) != 1:
        named = [f"{part}.{name}" if len(parts) > 1 else name for name, parts in swept.items() for part in parts]
        names = ", ".join(sorted(named)) or "none: nothing is swept"
        raise ValueError(
            f"against: expected a number that is swept and is no whole number, one of {names}; got {against!r}"
        )
    return found[0], name


def _without(choice: Choice, name: str) -> Choice:
    """The same without one of its numbers."""
    return Choice(choice.kind, tuple(item for item in choice.values if item[0] != name))


def _searched(
    study: Study,
    cell: Cell,
    part: str,
    against: str,
    low: float,
    high: float,
    files: Mapping[str, bytes],
    level: float,
    width: float,
    linear: bool,
) -> tuple[Crossing | None, str]:
    """The crossing along one line, or why there is none."""

    def case(value: float) -> tuple[Any, Any, Any]:
        choice = getattr(cell, part)
        here = dataclasses.replace(cell, **{part: Choice(choice.kind, (*choice.values, (against, value)))})
        problem = build_problem(here.problem, files)
        return problem, build_rule(here.rule), build_init(here.init, problem)

    if cell.init.pixels is not None:
        return None, "its starts lie on a grid and are not drawn, so that no interval allows for searching"
    how = study.options()
    options: dict[str, Any] = {name: getattr(how, name) for name in ("loss", "dtype", "limits", "stepping", "engine")}
    options |= {"record": [], "thresholds": how.thresholds, "train": build_train(study.train, study.batch, study.seed)}
    lanes = study.most_shards * study.shard
    with x64(study.dtype == "float64"):
        try:
            found = crossing(
                case, low, high, key=key_of(study, cell), steps=study.steps, width=width, level=level,
                verdict=study.stop.verdict, confidence=study.stop.level, max_lanes=lanes,
                logarithmic=not linear, **options,
            )  # fmt: skip
        except ValueError as error:
            told, _, why = str(error).partition("; ")
            ends = ("low: expected a value at which", "high: expected a value at which", "low, high: ")
            return None, why if told.startswith(ends) else str(error)
    return found, ""

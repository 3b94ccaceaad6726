"""Study files: TOML in, a `Study` or a message that names key, line and what was expected."""

import contextlib
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from jaxsim import _machine, data
from jaxsim.model import named, positive
from jaxsim.results import CURVES
from jaxsim.rules import check_rule
from jaxsim.simulation.checks import check_range
from jaxsim.simulation.stepping import leaps
from jaxsim.study import cells
from jaxsim.study.choices import build_init, build_problem, build_rule, build_train
from jaxsim.study.manifest import Contents, manifests
from jaxsim.study.sources import missing, shown
from jaxsim.study.spec import PARTS, Stop, Study
from jaxsim.study.tables import REGISTRIES, TAGS, expand, tables

SHOWN = 5  # errors in one message
NOT_IN_FILES = ("fingerprint", "sources")  # found by reading, not given
NOT_GIVEN = ("train", "batch", "stepping", "engine", "sources")  # not named beside what is missing
DEEPEST = 8  # tables in tables: a study has a list of tables of lists of lists


def load(path: str | os.PathLike) -> Study:
    """Read a study file.

    Args:
        path: a TOML file. Paths of problem files in it are relative to it.

    Returns:
        The `Study`.

    Raises:
        ValueError: where the file cannot be read, is not TOML, or holds what a study cannot; the message names each
            key, its line where that can be told, and what was expected.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"study: expected a readable TOML file at {os.fspath(path)!r}; {reason}") from error
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of Python's own, where a number has thousands of digits
        raise ValueError(f"study: {os.fspath(path)!r} is not TOML: {error}") from error
    return _parse(content, Path(path).parent, text)


def build(**content: Any) -> Study:
    """A study made in Python, from keywords named like the keys of the file.

    Args:
        **content: `steps`, `stop`, and lists of tables `problem`, `init` and `rule`; optional keys as in the file.

    Raises:
        ValueError: as `load`.

    Example:
        >>> study = build(
        ...     steps=100, stop={"lanes": 500}, problem=[{"family": "unit-sphere", "n": [3, 4]}],
        ...     init=[{"law": "sphere", "radius": [0.1, 1.0]}], rule=[{"name": "ngd", "eta": 0.1}],
        ... )
        >>> len(study.problems), study.inits[1].label
        (2, 'sphere radius=1')
    """
    return _parse(content, Path.cwd(), None)


def _parse(content: Mapping[str, Any], folder: Path, text: str | None) -> Study:
    _refuse_depth(content, text)
    if "sources" in content:
        raise ValueError(f"{_where(text, ('sources',))}sources: unknown key; a study finds out where members come from")
    try:
        study = Study.model_validate(content)
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False)
        lines = [_message(e, content, text) for e in found[:SHOWN]]
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise ValueError("\n".join(lines + more)) from None
    study = _with_files(study, folder, text)
    _try_each(study, text)
    return study


def _refuse_depth(content: Mapping[str, Any], text: str | None) -> None:
    """Refuse tables in tables further down than what follows can descend."""
    for key, value in content.items():
        level = [value]
        for _ in range(DEEPEST):
            nested = [v for v in level if isinstance(v, dict | list | tuple)]
            level = [inner for v in nested for inner in (v.values() if isinstance(v, dict) else v)]
        if level:
            where = _where(text, (key,))
            raise ValueError(f"{where}{key}: expected tables and lists at most {DEEPEST} deep; got deeper ones")


def _with_files(study: Study, folder: Path, text: str | None) -> Study:
    """The same study, with absolute paths and the fingerprints of problem files."""
    if not any(entry.family == "file" for entry in study.problem):
        return study
    content = study.model_dump(exclude_unset=True)
    for k, entry in enumerate(content["problem"]):
        if entry["family"] == "file":
            path = (folder / entry["path"]).absolute()
            try:
                entry["fingerprint"] = data.load(path).fingerprint()
            except ValueError as error:
                raise ValueError(f"{_where(text, ('problem', k, 'path'))}problem[{k}].path: {error}") from error
            entry["path"] = str(path)
    return Study.model_validate(content)


def _try_each(study: Study, text: str | None) -> None:
    """Build every rule, one problem for each set of sizes, and every law on each, for what types alone do not tell."""
    problems: list[Any] = []
    seen = set()
    for choice, k in zip(study.problems, _places(study, "problem"), strict=True):
        sizes = (choice.kind, *(pair for pair in choice.values if pair[0] != "seed"))
        if choice.kind != "file" and sizes not in seen:
            seen.add(sizes)
            problems.append(_tried("problem", k, text, build_problem, choice, {}))
    steps = max(1, len(study.record))
    for problem in problems:
        numbers = len(CURVES) * steps + problem.visible.size
        where, what = _where(text, ("shard",)), f"{study.shard:,} lanes with {numbers:,} numbers each"
        _machine.need(f"{where}shard", 8 * study.shard * numbers, what)
    told = study.train is not None or study.batch is not None
    train = _told("train", text, build_train, study.train, study.batch, study.seed)
    if positive(named(study.loss)):  # other losses fit every problem whose scores are not huge
        for problem in problems:
            _told("loss", text, check_range, problem, train.margins(problem), named(study.loss), np.dtype(study.dtype))
    for choice, k in zip(study.rules, _places(study, "rule"), strict=True):
        rule = _tried("rule", k, text, build_rule, choice)
        check_rule(rule)
        _reached(study, rule, train, text)
    for choice, k in zip(study.inits, _places(study, "init"), strict=True):
        for problem in problems if choice.pixels or told else [None]:
            law = _tried("init", k, text, build_init, choice, problem)
            if told:
                _told("train", text, train.check, problem, named(study.loss), law)


def _reached(study: Study, rule: Any, train: Any, text: str | None) -> None:
    """Refuse a horizon that a rule cannot reach, and leaps where there can be none."""
    try:
        leaps(study.stepping or "auto", study.recorded(), rule, train)
    except ValueError as error:
        raise ValueError(f"{_where(text, (str(error).partition(':')[0],))}{error}") from error


def _tried(kind: str, k: int, text: str | None, build: Callable[..., Any], *arguments: Any) -> Any:
    """What a builder makes of a table's choice; its error with key and line."""
    try:
        return build(*arguments)
    except ValueError as error:
        key = str(error).partition(":")[0]
        raise ValueError(f"{_where(text, (kind, k, key))}{kind}[{k}].{error}") from error


def _told(key: str, text: str | None, make: Callable[..., Any], *arguments: Any) -> Any:
    """What comes of a key that stands alone; its error with the line."""
    try:
        return make(*arguments)
    except ValueError as error:
        raise ValueError(f"{_where(text, (key,))}{key}: {str(error).removeprefix(f'{key}: ')}") from error


def _places(study: Study, kind: str) -> list[int]:
    """Which table of the file each choice came from."""
    return [k for k, entry in enumerate(getattr(study, kind)) for _ in expand(entry, TAGS[kind])]


def _message(error: Mapping[str, Any], content: Mapping[str, Any], text: str | None) -> str:
    """One error of the schema as: where, key, what was expected, what came."""
    loc = list(error["loc"])
    kind = str(loc[0]) if loc else ""
    known = tables(kind) if kind in TAGS else {}
    place = 1 if kind == "train" else 2  # of the name of a table
    if len(loc) > place and loc[place] in known:
        tag, loc = loc[place], loc[:place] + loc[place + 1 :]
        allowed: Sequence[str] = [*known[tag].model_fields]
    else:
        allowed = [*(Stop if kind == "stop" and len(loc) > 1 else Study).model_fields]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    where = _where(text, tuple(loc))
    got = shown(error["input"])
    match error["type"]:
        case "missing":
            beside = ", ".join(a for a in allowed if a not in (loc[-1], *NOT_GIVEN))
            return f"{where}{key}: missing; expected it beside {beside}"
        case "extra_forbidden":
            expected = ", ".join(a for a in allowed if a not in NOT_IN_FILES)
            return f"{where}{key}: unknown key; expected one of {expected}"
        case "union_tag_invalid" | "union_tag_not_found":
            tag = TAGS[kind]
            value = error["input"].get(tag) if isinstance(error["input"], Mapping) else None
            came = "nothing" if value is None else shown(value)
            how = REGISTRIES[kind].how_to_register(str(value))
            at = _where(text, (*loc, tag)) or where
            return f"{at}{key}.{tag}: expected one of {', '.join(known)}; got {came}; {how}"
        case "value_error":
            reason = str(error["ctx"]["error"])
            named = tuple(reason.partition(":")[0].split("."))  # a rule over several keys names one itself
            return f"{where}{key}: {reason}" if key else f"{_where(text, named)}{reason}"
        case "model_attributes_type" | "model_type" | "dict_type":
            return f"{where}{key}: expected a table of keys; got {got}"
    if kind in PARTS and len(loc) == 1:
        return f"{where}{key}: expected at least one table [[{kind}]]; got {got}"
    reason = error["msg"].removeprefix("Input should be ").removeprefix("a valid ").replace("'", "")
    reason = reason.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    reason = re.sub(
        r"(?:List|Tuple) should have (at \w+ \d+) items? after validation, not \d+", r"\1 in the list", reason
    )
    words = {"integer": "a whole number", "number": "a number", "string": "text in quotes", "boolean": "true or false"}
    return f"{where}{key}: expected {words.get(reason, reason)}; got {got}"


def _where(text: str | None, loc: Sequence[str | int]) -> str:
    line = None if text is None else line_of(text, loc)
    return "" if line is None else f"line {line}: "


def line_of(text: str, loc: Sequence[str | int]) -> int | None:
    """The line, from 1, on which a key stands, or the header of its table; None where neither is found.

    Headers `[a]` and `[[a]]` and keys at the start of a line are seen; inline tables count for the line of their key.
    """
    wanted_table = [part for part in loc[:2] if part in ("stop", "train", *PARTS) or isinstance(part, int)]
    key = next((str(part) for part in loc[len(wanted_table) :] if isinstance(part, str)), None)
    table: list[str | int] = []
    seen: dict[str, int] = {}
    header = None
    for number, line in enumerate(text.splitlines(), 1):
        opened = re.match(r"\s*\[(\[)?\s*\"?([\w.-]+)\"?\s*\]{1,2}\s*(?:#.*)?$", line)
        if opened:
            name = opened[2]
            if opened[1]:
                seen[name] = seen.get(name, -1) + 1
            table = [name, *([seen[name]] if opened[1] else [])]
            if not wanted_table and name == key:
                return number
            if table == wanted_table and header is None:
                header = number
            continue
        named = re.match(r"\s*\"?([\w-]+)\"?\s*(?:\.|=)", line)
        if not named:
            continue
        if table == wanted_table and named[1] == key:
            return number
        if not table and wanted_table and named[1] == wanted_table[0]:  # an inline table or a wrong type
            header = header or number
    return header


def as_study(content: Mapping[str, Any]) -> Study:
    """A study from the plain values of a manifest, without looking at files again."""
    return Study.model_validate(content)


def recorded(known: Contents, folder: Path) -> Study:
    """The study that the manifests of a folder tell.

    Raises:
        ValueError: where they tell none that can be, with the name of a manifest.
    """
    if "study" not in known.meta:
        raise ValueError(f"study: {os.fspath(manifests(folder)[0])!r} was cut off before it was begun")
    try:
        study = as_study(known.meta["study"])
        count = cells.count(study)
    except (ValueError, TypeError) as error:
        reason = " ".join(_reason(error, known.meta["study"]).split())
        raise ValueError(f"study: {os.fspath(manifests(folder)[0])!r} tells no study that can be ({reason})") from error
    for record in known.shards.values():
        if record.cell >= count and record.state != "damaged":
            raise ValueError(
                f"study: {os.fspath(manifests(folder)[0])!r} has a shard of cell {record.cell}, of {count} cells"
            )
    return study


def _reason(error: Exception, content: Any) -> str:
    """Why plain values are no study."""
    if isinstance(error, pydantic.ValidationError) and isinstance(content, Mapping):
        with contextlib.suppress(AttributeError, TypeError):  # sources that are no tables
            if absent := missing(content.get("sources")):
                return f"nobody has registered {', '.join(absent)}; jaxsim.register or --plugin MODULE does"
        found = error.errors(include_url=False)
        return "; ".join(_message(e, content, None) for e in found[:SHOWN])
    return str(error)

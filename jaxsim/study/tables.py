"""The tables of a study file, made from the signatures of what they name, when a file is read.

A member that is registered at any time before is known here without another line.
"""

import functools
import inspect
import itertools
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field, PlainValidator

from jaxsim._registry import Registry
from jaxsim.data import FAMILIES
from jaxsim.init import LAWS
from jaxsim.rules import ALL_RULES
from jaxsim.rules.optax_by_name import read
from jaxsim.study.choices import PLANES
from jaxsim.train import KINDS

LARGEST = 2**32
TAGS = {"problem": "family", "init": "law", "rule": "name", "train": "kind"}
REGISTRIES: dict[str, Registry] = {"problem": FAMILIES, "init": LAWS, "rule": ALL_RULES, "train": KINDS}
STRICT = pydantic.ConfigDict(strict=True, allow_inf_nan=False)
OF_THE_STUDY = ("batch", "key")  # what a study says for whatever it trains

Seed = Annotated[int, Field(ge=0, lt=LARGEST)]


class Entry(pydantic.BaseModel):
    """A table of the file: no unknown keys, no guessing of types."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class File(Entry):
    """A problem from an .npz file."""

    family: Literal["file"]
    path: str
    fingerprint: str | None = None


def tables(part: str) -> dict[str, type[Entry]]:
    """The tables of a part of the file, such as "rule", by the name that each of them has under its tag."""
    tag, registry = TAGS[part], REGISTRIES[part]
    grid = part != "train"
    made = {name: _entry(tag, name, member, grid) for name, member in registry.items()}
    if part == "problem":
        made["file"] = File
    if part == "init":
        made |= {name: _entry(tag, name, plane, grid) for name, plane in PLANES.items()}
    if part == "rule":
        made |= {"per-block": PerBlock, "decayed": Decayed, "sam": SAM, "optax": Optax}
    return made


def read_tables(part: str) -> Any:
    """A validator of a list of tables of one part, against the members that are known when it is asked."""

    def check(value: Any) -> Any:
        return _adapter(part, tuple(tables(part).items()), many=True).validate_python(value)

    return PlainValidator(check)


def read_table(part: str, value: Any) -> Entry:
    """One table of a part."""
    return _adapter(part, tuple(tables(part).items()), many=False).validate_python(value)


def expand(entry: Entry, tag: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The kind and parameters of every point of a table's grid."""
    values = {k: v for k, v in entry.model_dump(exclude={tag, "path"}).items() if v is not None}
    grids = [v if isinstance(v, list) else [v] for v in values.values()]
    for point in itertools.product(*grids):
        yield getattr(entry, tag), {{"seeds": "seed"}.get(k, k): v for k, v in zip(values, point, strict=True)}


@functools.lru_cache(maxsize=16)
def _adapter(part: str, made: tuple[tuple[str, type[Entry]], ...], many: bool) -> pydantic.TypeAdapter:
    union: Any = functools.reduce(lambda a, b: a | b, dict(made).values())
    one = Annotated[union, Field(discriminator=TAGS[part])]
    listed = Annotated[list[one], Field(min_length=1)]  # type: ignore[valid-type]
    kind: Any = listed if many else one
    return pydantic.TypeAdapter(kind, config=STRICT)


@functools.lru_cache(maxsize=256)
def _entry(tag: str, kind: str, source: Callable[..., Any], grid: bool) -> type[Entry]:
    """The table that names `source` under `tag`, with a key for each of its parameters."""
    hints, wrap = _hints(source), _grid if grid else _single
    fields: dict[str, Any] = {tag: (Literal[kind], ...)}  # type: ignore[valid-type]
    for name, parameter in inspect.signature(source).parameters.items():
        if name == "problem" or (not grid and (name in OF_THE_STUDY or hints.get(name, Any) is Any)):
            continue  # given by the cell or the study, or no plain value
        hint = hints.get(name, Any)
        if name == "key":
            fields["seeds"] = (_grid(Seed), [0])
        elif not _can_be_told(hint):
            continue
        elif parameter.default is inspect.Parameter.empty:
            fields[name] = (wrap(hint, tag == "name"), ...)
        elif parameter.default is None:
            fields[name] = (wrap(hint, tag == "name") | None, None)
        else:
            default = _defaults(parameter.default) if grid else parameter.default
            fields[name] = (wrap(hint, tag == "name"), Field(default, validate_default=True))
    return pydantic.create_model(kind, __base__=Entry, **fields)


def _hints(source: Callable[..., Any]) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(source if inspect.isfunction(source) else source.__init__)  # type: ignore[misc]
        return hints | (typing.get_type_hints(source) if inspect.isclass(source) else {})
    except NameError:  # names that exist for type checkers alone
        return {}


def _can_be_told(hint: Any) -> bool:
    """Whether values of a type can stand in a file."""
    try:
        pydantic.TypeAdapter(hint)
        return True
    except pydantic.errors.PydanticUserError:
        return False


def _single(hint: Any, scheduled: bool = False) -> Any:
    """One value."""
    return hint


def _grid(hint: Any, scheduled: bool = False) -> Any:
    """One value or a list of them, always kept as a list."""
    wrap = _listed
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        hint = Annotated[list[parts[0]], Field(min_length=len(parts), max_length=len(parts))]
        wrap = _listed_tuples
    elif typing.get_origin(hint) is Sequence:
        hint = Annotated[list[typing.get_args(hint)[0]], Field(min_length=1)]
        wrap = _listed_tuples
    elif hint is Any:  # a step size, which may also be a schedule
        hint = Annotated[Any, PlainValidator(_number_or_schedule)] if scheduled else float
    return _different_ones(hint, wrap)


def _different_ones(hint: Any, wrap: Callable[[Any], Any]) -> Any:
    values = Annotated[list[hint], Field(min_length=1)]
    return Annotated[values, pydantic.AfterValidator(_different), BeforeValidator(wrap)]


_number = pydantic.TypeAdapter(float, config=STRICT).validate_python


def _number_or_schedule(value: Any) -> Any:
    return read("schedule", value).plain() if isinstance(value, Mapping) and "schedule" in value else _number(value)


def _transformation(value: Any) -> Any:
    return read("transformation", value).plain()


def _rule_of_another(value: Any) -> Any:
    entry = read_table("rule", value)
    points = list(expand(entry, "name"))
    if len(points) != 1 or points[0][0] == "per-block":
        raise ValueError("expected a rule with one value of each parameter, and no per-block inside another")
    return {"name": points[0][0]} | points[0][1]


def _listed(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, list | tuple) else [value]


def _listed_tuples(value: Any) -> Any:
    nested = isinstance(value, list | tuple) and len(value) > 0 and isinstance(value[0], list | tuple)
    return [list(one) if isinstance(one, tuple) else one for one in (value if nested else [value])]  # type: ignore


def _different(values: list[Any]) -> list[Any]:
    for k, value in enumerate(values):
        if value in values[:k]:
            raise ValueError(f"expected different values; {value!r} is given twice")
    return values


def _defaults(value: Any) -> list[Any]:
    plain = getattr(value, "value", value)  # a step size's number
    return [list(plain)] if isinstance(plain, tuple) else [plain]


_Rule = Annotated[Any, PlainValidator(_rule_of_another)]


class PerBlock(Entry):
    """A rule for each block of what is trained."""

    name: Literal["per-block"]
    rules: _different_ones(Annotated[list[_Rule], Field(min_length=1)], _listed_tuples)  # type: ignore[valid-type]


class Decayed(Entry):
    """A rule with weight decay."""

    name: Literal["decayed"]
    rule: _different_ones(_Rule, _listed)  # type: ignore[valid-type]
    rate: _grid(float)  # type: ignore[valid-type]


class SAM(Entry):
    """A rule whose gradient is taken a little up the slope."""

    name: Literal["sam"]
    rule: _different_ones(_Rule, _listed)  # type: ignore[valid-type]
    rho: _grid(Any, scheduled=True)  # type: ignore[valid-type]
    normalise: _grid(bool) = [True]  # type: ignore[valid-type]


class Optax(Entry):
    """A transformation of optax, by name and numbers."""

    name: Literal["optax"]
    transformation: _different_ones(Annotated[Any, PlainValidator(_transformation)], _listed)  # type: ignore[valid-type]
    normalise: _grid(bool) = [False]  # type: ignore[valid-type]

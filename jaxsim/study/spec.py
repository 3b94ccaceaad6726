"""A study as an object: grids of problems, initialisation laws and rules, a horizon, a stopping rule, a seed.

Tables of families, laws and rules are made from the signatures of the functions and classes that they name, so a new
rule is known here without another line.
"""

import functools
import hashlib
import inspect
import itertools
import json
import math
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

from jaxsim import _machine, data
from jaxsim import init as laws
from jaxsim.analysis import VERDICTS
from jaxsim.basins.pixels import limits_pixels, random_pixels
from jaxsim.rules import MATRIX_RULES, RULES
from jaxsim.study.cells import Choice, labelled

FAMILIES: dict[str, Callable[..., Any]] = {
    "digits": data.digits,
    "orthonormal": data.orthonormal,
    "signal-noise": data.signal_noise,
    "unit-sphere": data.unit_sphere,
}
LAWS: dict[str, type] = {"gaussian": laws.Gaussian, "sphere": laws.Sphere, "zero": laws.Zero}
PLANES: dict[str, Callable[..., Any]] = {"limits-plane": limits_pixels, "random-plane": random_pixels}
SHARD = 500  # lanes
MOST_LANES = 100_000
LARGEST = 2**32
CHOICE_BYTES, CELL_BYTES, SHARD_BYTES = 500, 200, 100  # held for each at the least

Seed = Annotated[int, Field(ge=0, lt=LARGEST)]


class Entry(pydantic.BaseModel):
    """A table of the file: no unknown keys, no guessing of types."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


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


def _grid(hint: Any) -> Any:
    """One value or a list of them, always kept as a list."""
    wrap = _listed
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        hint = Annotated[list[parts[0]], Field(min_length=len(parts), max_length=len(parts))]
        wrap = _listed_tuples
    elif typing.get_origin(hint) is Sequence:
        hint = Annotated[list[typing.get_args(hint)[0]], Field(min_length=1)]
        wrap = _listed_tuples
    elif hint is Any:  # a step size, which code may also give as a schedule
        hint = float
    values = Annotated[list[hint], Field(min_length=1)]  # type: ignore[valid-type]
    return Annotated[values, pydantic.AfterValidator(_different), BeforeValidator(wrap)]


def _entry(tag: str, kind: str, source: Callable[..., Any]) -> type[Entry]:
    """The table that names `source` under `tag`, with a key for each of its parameters."""
    hints = typing.get_type_hints(source if inspect.isfunction(source) else source.__init__)
    hints |= typing.get_type_hints(source) if inspect.isclass(source) else {}
    fields: dict[str, Any] = {tag: (Literal[kind], ...)}  # type: ignore[valid-type]
    for name, parameter in inspect.signature(source).parameters.items():
        if name == "problem":  # given by the cell
            continue
        if name == "key":
            fields["seeds"] = (_grid(Seed), [0])
        elif parameter.default is inspect.Parameter.empty:
            fields[name] = (_grid(hints.get(name)), ...)
        elif parameter.default is None:
            fields[name] = (_grid(hints.get(name)) | None, None)
        else:
            fields[name] = (_grid(hints.get(name)), Field(_defaults(parameter.default), validate_default=True))
    return pydantic.create_model(kind, __base__=Entry, **fields)


def _defaults(value: Any) -> list[Any]:
    plain = getattr(value, "value", value)  # a step size's number
    return [list(plain)] if isinstance(plain, tuple) else [plain]


class File(Entry):
    """A problem from an .npz file."""

    family: Literal["file"]
    path: str
    fingerprint: str | None = None


def _tables(tag: str, sources: dict[str, Callable[..., Any]], *more: type[Entry]) -> tuple[dict[str, type[Entry]], Any]:
    made = {kind: _entry(tag, kind, source) for kind, source in sources.items()}
    made |= {typing.get_args(model.model_fields[tag].annotation)[0]: model for model in more}
    union: Any = functools.reduce(lambda a, b: a | b, made.values())
    return made, Annotated[list[Annotated[union, Field(discriminator=tag)]], Field(min_length=1)]


PROBLEM_TABLES, Problems = _tables("family", FAMILIES, File)
INIT_TABLES, Inits = _tables("law", LAWS | PLANES)
RULE_TABLES, Rules = _tables("name", RULES | MATRIX_RULES)
TABLES = {"problem": PROBLEM_TABLES, "init": INIT_TABLES, "rule": RULE_TABLES}
TAGS = {"problem": "family", "init": "law", "rule": "name"}


class Stop(Entry):
    """When a cell is done: after `lanes` lanes, or once the interval of a fraction is narrow enough."""

    lanes: Annotated[int, Field(ge=1, le=LARGEST)] | None = None
    half_width: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    verdict: Literal[VERDICTS] = "global"  # type: ignore[valid-type]
    level: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    max_lanes: Annotated[int, Field(ge=1, le=LARGEST)] | None = None  # with half_width: MOST_LANES

    @pydantic.model_validator(mode="after")
    def _one_of_two(self):
        if (self.lanes is None) == (self.half_width is None):
            raise ValueError("expected either lanes or half_width")
        if self.lanes is not None and self.max_lanes is not None:
            raise ValueError("max_lanes has a meaning only with half_width")
        return self

    @property
    def interval(self) -> Literal["anytime", "wilson"]:
        """The kind of interval that stays valid under this rule."""
        return "wilson" if self.half_width is None else "anytime"


class Study(Entry):
    """What `jaxsim.study.load` reads and `jaxsim.study.build` makes; `jaxsim study example` prints a file."""

    name: str = "study"
    seed: Seed = 0
    steps: Annotated[int, Field(ge=1, lt=2**31)]
    record: list[Annotated[int, Field(ge=0)]] = []
    loss: Literal["logistic", "exponential", "linear"] = "logistic"
    dtype: Literal["float32", "float64"] = "float64"
    limits: Literal["all", "saturated"] = "all"
    saturation: Annotated[float, Field(gt=0, lt=1)] = 0.05
    alignment: Annotated[float, Field(gt=0, lt=2)] = 0.01
    shard: Annotated[int, Field(ge=1, le=2**20)] = SHARD
    problem: Problems  # type: ignore[valid-type]
    init: Inits  # type: ignore[valid-type]
    rule: Rules  # type: ignore[valid-type]
    stop: Stop

    @pydantic.field_validator("record")
    @classmethod
    def _ordered(cls, record: list[int], info: pydantic.ValidationInfo) -> list[int]:
        if record and max(record) > info.data.get("steps", max(record)):
            raise ValueError(f"expected steps up to the horizon {info.data['steps']}; got {max(record)}")
        return sorted(set(record) | {info.data["steps"]}) if record and "steps" in info.data else record

    @pydantic.model_validator(mode="after")
    def _fits(self):
        """Held against memory before any list of choices, cells or shards is made."""
        cells = 1
        for kind, tables in (("problem", self.problem), ("init", self.init), ("rule", self.rule)):
            choices = sum(_points(entry, TAGS[kind]) for entry in tables)
            _machine.need(kind, CHOICE_BYTES * choices, f"{choices:,} of them")
            cells *= choices
        _machine.need("stop.lanes", CELL_BYTES * cells, f"{cells:,} cells")
        shards = cells * self.first_shards
        _machine.need("stop.lanes", SHARD_BYTES * shards, f"{shards:,} shards of {self.shard} lanes in a list")
        return self

    @pydantic.model_validator(mode="after")
    def _whole_shards(self):
        for name in ("lanes", "max_lanes"):
            value = getattr(self.stop, name)
            if value is not None and value % self.shard:
                near = max(1, round(value / self.shard)) * self.shard
                raise ValueError(
                    f"stop.{name}: expected a multiple of shard = {self.shard}, such as {near}; got {value}"
                )
        for choice in self.inits:
            if choice.pixels is not None and self.stop.lanes != choice.pixels:
                got = "half_width" if self.stop.lanes is None else self.stop.lanes
                raise ValueError(
                    f"stop.lanes: expected {choice.pixels}, one per pixel of {choice.label}; got {got}. "
                    f"It has to be a multiple of shard = {self.shard}"
                )
        for kind in ("problem", "init", "rule"):
            choices = getattr(self, f"{kind}s")
            if len(set(choices)) < len(choices):
                twice = next(c for k, c in enumerate(choices) if c in choices[:k])
                raise ValueError(f"{kind}: expected different ones; {twice.full} is given twice")
        return self

    @functools.cached_property
    def problems(self) -> list[Choice]:
        """Every problem of the grid."""
        return labelled(_expand(entry, "family") for entry in self.problem)

    @functools.cached_property
    def inits(self) -> list[Choice]:
        """Every initialisation law of the grid."""
        return labelled(_expand(entry, "law") for entry in self.init)

    @functools.cached_property
    def rules(self) -> list[Choice]:
        """Every rule of the grid."""
        return labelled(_expand(entry, "name") for entry in self.rule)

    def what_shards_depend_on(self) -> dict[str, Any]:
        """Plain values: everything but the name, the stopping rule and where files lie."""
        plain = self.model_dump(exclude={"name", "stop"})
        for entry in plain["problem"]:
            if entry["family"] == "file":
                del entry["path"]
        return plain

    @functools.cached_property
    def hash(self) -> str:
        """The study hash: equal for studies whose shards are equal."""
        text = json.dumps(self.what_shards_depend_on(), sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def first_shards(self) -> int:
        """Shards of a cell at first: all under a fixed budget."""
        return 1 if self.stop.lanes is None else self.stop.lanes // self.shard

    @property
    def most_shards(self) -> int:
        """Shards that a cell may have."""
        if self.stop.lanes is not None:
            return self.first_shards
        return max(1, (self.stop.max_lanes or MOST_LANES) // self.shard)


def _points(entry: Entry, tag: str) -> int:
    """How many points the grid of a table has."""
    values = entry.model_dump(exclude={tag, "path"}).values()
    return math.prod(len(v) for v in values if isinstance(v, list))


def _expand(entry: Entry, tag: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The kind and parameters of every point of a table's grid."""
    values = {k: v for k, v in entry.model_dump(exclude={tag, "path"}).items() if v is not None}
    grids = [v if isinstance(v, list) else [v] for v in values.values()]
    for point in itertools.product(*grids):
        yield getattr(entry, tag), {{"seeds": "seed"}.get(k, k): v for k, v in zip(values, point, strict=True)}

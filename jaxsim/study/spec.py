"""A study as an object: grids of problems, initialisation laws and rules, a horizon, a stopping rule, a seed."""

import functools
import hashlib
import inspect
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import BeforeValidator, Field, PlainValidator

from jaxsim import _machine
from jaxsim.analysis import VERDICTS, Thresholds
from jaxsim.driver import LARGEST_HORIZON, record_steps
from jaxsim.simulation import Options
from jaxsim.study.choices import Choice, labelled
from jaxsim.study.sources import differences, sources_of
from jaxsim.study.tables import LARGEST, REGISTRIES, TAGS, Entry, Seed, expand, read_table, read_tables, tables

SHARD = 500  # lanes
MOST_LANES = 100_000
CHOICE_BYTES, CELL_BYTES, SHARD_BYTES = 500, 200, 100  # held for each at the least
PARTS = ("problem", "init", "rule")
# Told where they are given, so that older studies stay the same.
WHERE_GIVEN = ("train", "batch", "stepping", "engine", "sources")


def __getattr__(name: str) -> Any:
    """RULE_TABLES, INIT_TABLES and PROBLEM_TABLES: the tables of the members that are registered now."""
    part = name.removesuffix("_TABLES").lower()
    if name.endswith("_TABLES") and part in PARTS:
        return {kind: table for kind, table in tables(part).items() if kind in REGISTRIES[part]}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def whole(value: Any) -> Any:
    """A whole number that is written as 1e15; anything else as it is, for the schema to judge."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _trained(value: Any) -> dict[str, Any] | None:
    """What is trained as plain values; None for the weights alone, which is what a study trains unasked."""
    if value is None:
        return None
    content = {"kind": value} if isinstance(value, str) else value
    if isinstance(content, Mapping) and content.get("kind") not in REGISTRIES["train"]:
        known = ", ".join(REGISTRIES["train"])
        raise ValueError(
            f"expected one of {known}; got {content.get('kind')!r}; "
            f"{REGISTRIES['train'].how_to_register(str(content.get('kind')))}"
        )
    found = read_table("train", content).model_dump()
    return None if found == {"kind": "weights"} else found


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
    steps: Annotated[int, BeforeValidator(whole), Field(ge=1, le=LARGEST_HORIZON["float64"])]
    record: list[Annotated[int, BeforeValidator(whole), Field(ge=0)]] = []
    stepping: Literal["auto", "every", "leap"] | None = None
    engine: Literal["xla", "native"] | None = None
    loss: Literal["logistic", "exponential", "linear", "negative-log"] = "logistic"
    dtype: Literal["float32", "float64"] = "float64"
    limits: Literal["all", "saturated"] = "all"
    saturation: Annotated[float, Field(gt=0, lt=1)] = 0.05
    alignment: Annotated[float, Field(gt=0, lt=2)] = 0.01
    shard: Annotated[int, Field(ge=1, le=2**20)] = SHARD
    train: Annotated[Any, PlainValidator(_trained)] = None
    batch: Annotated[int, Field(ge=1)] | None = None
    problem: Annotated[list[Any], read_tables("problem")]
    init: Annotated[list[Any], read_tables("init")]
    rule: Annotated[list[Any], read_tables("rule")]
    stop: Stop
    sources: dict[str, Any] | None = Field(None, validate_default=True)  # of members from outside; not in the file

    @pydantic.field_validator("record")
    @classmethod
    def _ordered(cls, record: list[int], info: pydantic.ValidationInfo) -> list[int]:
        if record and max(record) > info.data.get("steps", max(record)):
            raise ValueError(f"expected steps up to the horizon {info.data['steps']}; got {max(record)}")
        return sorted(set(record) | {info.data["steps"]}) if record and "steps" in info.data else record

    @pydantic.field_validator("batch")
    @classmethod
    def _has_batches(cls, batch: int | None, info: pydantic.ValidationInfo) -> int | None:
        kind = (info.data.get("train") or {"kind": "weights"})["kind"]
        if batch is not None and "batch" not in inspect.signature(REGISTRIES["train"][kind]).parameters:
            raise ValueError(f"has no meaning for train = {kind!r}")
        return batch

    @pydantic.field_validator("sources")
    @classmethod
    def _where_from(cls, sources: dict[str, Any] | None, info: pydantic.ValidationInfo) -> dict[str, Any] | None:
        return sources_of(info.data) if sources is None else sources

    @pydantic.model_serializer(mode="wrap")
    def _plain(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        found = handler(self)
        return {k: v for k, v in found.items() if k not in WHERE_GIVEN or v is not None}

    @pydantic.model_validator(mode="after")
    def _fits(self):
        """Held against memory before any list of choices, cells or shards is made."""
        cells = 1
        for kind, entries in (("problem", self.problem), ("init", self.init), ("rule", self.rule)):
            choices = sum(_points(entry, TAGS[kind]) for entry in entries)
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
        return labelled(expand(entry, "family") for entry in self.problem)

    @functools.cached_property
    def inits(self) -> list[Choice]:
        """Every initialisation law of the grid."""
        return labelled(expand(entry, "law") for entry in self.init)

    @functools.cached_property
    def rules(self) -> list[Choice]:
        """Every rule of the grid."""
        return labelled(expand(entry, "name") for entry in self.rule)

    def what_shards_depend_on(self) -> dict[str, Any]:
        """Plain values: everything but the name, the stopping rule and where files lie."""
        plain = self.model_dump(exclude={"name", "stop"})
        for entry in plain["problem"]:
            if entry["family"] == "file":
                del entry["path"]
        return plain

    def hold_sources(self) -> None:
        """Refuse to go on where a member from outside is another than when the study was begun."""
        here = sources_of({part: getattr(self, part) for part in (*PARTS, "train")})
        if here != self.sources:
            raise ValueError(
                "sources: the study was begun with other members from outside:\n  "
                + "\n  ".join(differences(self.sources or {}, here or {}, "sources"))
            )

    def recorded(self) -> np.ndarray:
        """The recorded steps."""
        return record_steps(self.steps, self.record, LARGEST_HORIZON[self.dtype])

    def options(self) -> Options:
        """How every run of the study is made."""
        thresholds = Thresholds(self.saturation, self.alignment)
        return Options(
            self.steps, self.record, self.loss, self.dtype, thresholds=thresholds, limits=self.limits,
            stepping=self.stepping or "auto", engine=self.engine or "xla",
        )  # fmt: skip

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

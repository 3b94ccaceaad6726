"""Points of a study's grid by name and numbers, and the objects that they stand for, made by the registries."""

import dataclasses
import hashlib
import inspect
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from jaxsim import rules
from jaxsim.basins.pixels import limits_pixels, random_pixels
from jaxsim.data import FAMILIES
from jaxsim.data import files as stored
from jaxsim.init import LAWS
from jaxsim.train import KINDS, WEIGHTS

PLANES: dict[str, Callable[..., Any]] = {"limits-plane": limits_pixels, "random-plane": random_pixels}
MADE_OF = ("rule", "rules", "transformation")  # of a rule: told in every label
NAMED_BY = ("name", "schedule")  # the keys that name what a table in a table is
BATCHES = 2**32 - 2  # folded into the study's key for the order of batches


@dataclasses.dataclass(frozen=True)
class Values:
    """A table of a file as a constant: names and values, sorted by name."""

    items: tuple[tuple[str, Any], ...]

    def __repr__(self):
        return _short(self)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One point of a grid: a family, law or rule by name, and the numbers it takes."""

    kind: str
    values: tuple[tuple[str, Any], ...]
    label: str = dataclasses.field(default="", compare=False)

    @property
    def full(self) -> str:
        """Name and numbers, without leaving any out."""
        return " ".join([self.kind, *(f"{k}={_short(v)}" for k, v in self.values)])

    def plain(self) -> dict[str, Any]:
        """Kind and numbers as plain values."""
        return {"kind": self.kind} | self.given()

    def given(self) -> dict[str, Any]:
        """The numbers as plain values."""
        return {k: _plain(v) for k, v in self.values}

    def shown(self) -> dict[str, Any]:
        """The numbers for a table of all choices, where a table in a table is text."""
        return {k: v if not _has_tables(v) else _short(v) for k, v in self.values}

    @property
    def pixels(self) -> int | None:
        """How many starts a law has that lie on a grid; None where they are drawn at random."""
        sides = dict(self.values).get("resolution") if self.kind in PLANES else None
        return None if sides is None else math.prod(sides)

    def words(self) -> tuple[int, int]:
        """Two 32-bit words that stand for the content."""
        digest = hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).digest()
        return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")


def labelled(groups: Iterable[Iterable[tuple[str, dict[str, Any]]]]) -> list[Choice]:
    """Choices with short labels: the kind, what it is made of, and numbers that differ among choices of that kind."""
    points = [(kind, values) for group in groups for kind, values in group]
    met: dict[tuple[str, str], set[str]] = {}
    for kind, values in points:
        for name, value in values.items():
            met.setdefault((kind, name), set()).add(repr(value))
    made = []
    for kind, values in points:
        told = [
            f"{k}={_short(_frozen(v)) if len(met[kind, k]) > 1 else _names(v)}"
            for k, v in values.items()
            if len(met[kind, k]) > 1 or k in MADE_OF
        ]
        made.append(Choice(kind, tuple((k, _frozen(v)) for k, v in values.items()), " ".join([kind, *told])))
    return made


def build_problem(choice: Choice, files: Mapping[str, bytes]) -> Any:
    """The problem that a choice stands for; data seed s draws with jax.random.key(s)."""
    if choice.kind == "file":
        fingerprint = dict(choice.values)["fingerprint"]
        with tempfile.NamedTemporaryFile(suffix=".npz") as copy:
            copy.write(files[fingerprint])
            copy.flush()
            problem = stored.load(copy.name)
        if problem.fingerprint() != fingerprint:
            raise ValueError("path: the problem file has changed since the study began")
        return problem
    return _seeded(FAMILIES[choice.kind], choice)


def build_init(choice: Choice, problem: Any) -> Any:
    """The law that a choice stands for; a plane is one of the problem's initialisation space."""
    if choice.kind in PLANES:
        return _seeded(PLANES[choice.kind], choice, problem)
    return _seeded(LAWS[choice.kind], choice)


def build_rule(choice: Choice) -> Any:
    """The rule that a choice stands for."""
    return rules.build({"name": choice.kind} | choice.given())


def build_train(kind: Mapping[str, Any] | None, batch: int | None, seed: int) -> Any:
    """What a study trains: the table of its file, sequences per step, and the seed of their order."""
    if kind is None and batch is None:
        return WEIGHTS
    values = {"kind": "weights"} if kind is None else dict(kind)
    make = KINDS[values.pop("kind")]
    takes = inspect.signature(make).parameters
    given = {"batch": batch, "key": jax.random.fold_in(jax.random.key(seed), BATCHES)}
    return make(**values, **{name: value for name, value in given.items() if name in takes})


def _seeded(make: Callable[..., Any], choice: Choice, *given: Any) -> Any:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in choice.given().items()}
    if "seed" in values and "seed" not in (takes := inspect.signature(make).parameters) and "key" in takes:
        values["key"] = jax.random.key(values.pop("seed"))
    return make(*given, **values)


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Values(tuple((k, _frozen(v)) for k, v in sorted(value.items())))
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Values):
        return {k: _plain(v) for k, v in value.items}
    return list(map(_plain, value)) if isinstance(value, tuple) else value


def _names(value: Any) -> str:
    """The names of the rules, or of the transformation, that a rule is made of."""
    return ",".join(map(_names, value)) if isinstance(value, list | tuple) else str(value["name"])


def _has_tables(value: Any) -> bool:
    return isinstance(value, Values) or (isinstance(value, tuple) and any(map(_has_tables, value)))


def _short(value: Any) -> str:
    if isinstance(value, Values):
        name = "".join(str(v) for k, v in value.items if k in NAMED_BY)
        return f"{name}({' '.join(f'{k}={_short(v)}' for k, v in value.items if k not in NAMED_BY)})"
    if isinstance(value, tuple | list):
        return ",".join(map(_short, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)

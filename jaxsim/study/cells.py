"""The cells of a study: one problem, one law, one rule each; and the objects and keys that they stand for."""

import dataclasses
import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from jaxsim.study.spec import Study


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
        return {"kind": self.kind} | {k: list(v) if isinstance(v, tuple) else v for k, v in self.values}

    @property
    def pixels(self) -> int | None:
        """How many starts a law has that lie on a grid; None where they are drawn at random."""
        sides = dict(self.values).get("resolution")
        return None if sides is None else math.prod(sides)

    def words(self) -> tuple[int, int]:
        """Two 32-bit words that stand for the content."""
        digest = hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).digest()
        return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One problem, one law and one rule of a study; `index` counts problems first, then laws, then rules."""

    index: int
    problem: Choice
    init: Choice
    rule: Choice

    @property
    def label(self) -> str:
        """What tells it from the others."""
        return f"{self.problem.label} | {self.init.label} | {self.rule.label}"


def labelled(groups: Iterable[Iterable[tuple[str, dict[str, Any]]]]) -> list[Choice]:
    """Choices with short labels: the kind, and the numbers that differ among choices of that kind."""
    points = [(kind, values) for group in groups for kind, values in group]
    met: dict[tuple[str, str], set[str]] = {}
    for kind, values in points:
        for name, value in values.items():
            met.setdefault((kind, name), set()).add(repr(value))
    made = []
    for kind, values in points:
        told = [f"{k}={_short(v)}" for k, v in values.items() if len(met[kind, k]) > 1]
        frozen = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in values.items())
        made.append(Choice(kind, frozen, " ".join([kind, *told])))
    return made


def cells(study: "Study") -> Iterator[Cell]:
    """Every cell, in order."""
    index = 0
    for problem in study.problems:
        for init in study.inits:
            for rule in study.rules:
                yield Cell(index, problem, init, rule)
                index += 1


def count(study: "Study") -> int:
    """How many cells there are."""
    return len(study.problems) * len(study.inits) * len(study.rules)


def cell_at(study: "Study", index: int) -> Cell:
    """The cell with this index."""
    rest, rule = divmod(index, len(study.rules))
    problem, init = divmod(rest, len(study.inits))
    return Cell(index, study.problems[problem], study.inits[init], study.rules[rule])


def build_problem(choice: Choice, files: Mapping[str, bytes]) -> Any:
    """The problem that a choice stands for; data seed s draws with jax.random.key(s)."""
    from jaxsim.data import files as stored
    from jaxsim.study.spec import FAMILIES

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
    from jaxsim.study.spec import LAWS, PLANES

    if choice.kind in PLANES:
        return _seeded(PLANES[choice.kind], choice, problem)
    return LAWS[choice.kind](**dict(choice.values))


def _seeded(make: Callable[..., Any], choice: Choice, *given: Any) -> Any:
    values = dict(choice.values)
    if "seed" in values:
        values["key"] = jax.random.key(values.pop("seed"))
    return make(*given, **values)


def build_rule(choice: Choice) -> Any:
    """The rule that a choice stands for."""
    from jaxsim.rules import MATRIX_RULES, RULES

    return (RULES | MATRIX_RULES)[choice.kind](**dict(choice.values))


def key_of(study: "Study", cell: Cell) -> jax.Array:
    """The JAX key of a cell's lanes, from the seed, the problem and the law.

    It does not depend on the rule: rules are compared on the same starts. It depends on content and not on place, so
    the same problem and law in another study with the same seed start from the same points.
    """
    key = jax.random.key(study.seed)
    for word in (*cell.problem.words(), *cell.init.words()):
        key = jax.random.fold_in(key, word)
    return key


def _short(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_short, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)

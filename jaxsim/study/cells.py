"""The cells of a study: one problem, one law, one rule each; and the keys of their lanes."""

import dataclasses
from collections.abc import Iterator

import jax

from jaxsim.study.choices import Choice
from jaxsim.study.spec import Study


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


def cells(study: Study) -> Iterator[Cell]:
    """Every cell, in order."""
    index = 0
    for problem in study.problems:
        for init in study.inits:
            for rule in study.rules:
                yield Cell(index, problem, init, rule)
                index += 1


def count(study: Study) -> int:
    """How many cells there are."""
    return len(study.problems) * len(study.inits) * len(study.rules)


def cell_at(study: Study, index: int) -> Cell:
    """The cell with this index."""
    rest, rule = divmod(index, len(study.rules))
    problem, init = divmod(rest, len(study.inits))
    return Cell(index, study.problems[problem], study.inits[init], study.rules[rule])


def key_of(study: Study, cell: Cell) -> jax.Array:
    """The JAX key of a cell's lanes, from the seed, the problem and the law.

    It does not depend on the rule: rules are compared on the same starts. It depends on content and not on place, so
    the same problem and law in another study with the same seed start from the same points.
    """
    key = jax.random.key(study.seed)
    for word in (*cell.problem.words(), *cell.init.words()):
        key = jax.random.fold_in(key, word)
    return key

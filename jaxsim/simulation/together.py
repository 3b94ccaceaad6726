"""Works on one problem that differ in the numbers of rule and law, in their key and first lane, in one program.

Lanes of all works lie one after the other, and where their rules differ every lane has the numbers of its own: no
program is compiled for each, few blocks are left part empty, and the devices do not wait between one work and the next.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from jaxsim import driver
from jaxsim.coordinates import as_device
from jaxsim.results import Run, joined
from jaxsim.results.lanes import Lanes
from jaxsim.rules import Rule
from jaxsim.simulation.work import Work
from jaxsim.train import Known


def together(works: Sequence[Work], own_blocks: bool = False) -> Iterator[Run]:
    """The runs of all works, in order.

    Args:
        works: by `Work.again`, so that what they share is shared. Where their rules differ, these have to take numbers
            per lane, as all of this package do.
        own_blocks: whether no block has lanes of two works, and blocks are those of a work alone: then what comes out
            is the same, bit for bit, whatever stands beside it.
    """
    first = works[0]
    how = first.plan if own_blocks else first.planned(first.lanes * len(works))
    slots = -(-first.lanes // how.width) * how.width if own_blocks else first.lanes  # lanes of a work, padding included
    size = how.width * how.blocks
    how = driver.Plan(how.width, how.blocks, -(-slots * len(works) // size))
    chunks = [_pieces(k * size, size, slots, len(works)) for k in range(how.chunks)]
    ran = driver.run(
        first.model, as_device(first.rule, first.options.dtype), _starts(works, chunks, how, slots),
        first.options.recorded, how, first.far, first.engine,
    )  # fmt: skip
    found: list[Lanes] = []
    for chunk, pieces in zip(ran, chunks, strict=True):
        for piece in pieces:
            work = works[piece.work]
            found.append(work.analysed(chunk, piece.places(work.lanes)))
            if piece.end == slots:
                yield _of_its_own(work.result(joined(found)))
                found = []


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Lanes `begin` … `end` - 1 of a work, from the place `at` in a chunk."""

    work: int
    begin: int
    end: int
    at: int

    def places(self, lanes: int) -> slice:
        """Where in the chunk those lie that the work has."""
        return slice(self.at, self.at + min(self.end, lanes) - self.begin)


def _pieces(begin: int, size: int, slots: int, works: int) -> list[_Piece]:
    """What lies in a chunk of that size, whose first place is that of lane `begin` of all."""
    at, end, found = begin, min(begin + size, slots * works), []
    while at < end:
        work, first = divmod(at, slots)
        last = min(slots, first + end - at)
        found.append(_Piece(work, first, last, at - begin))
        at += last - first
    return found


def _starts(
    works: Sequence[Work], chunks: Sequence[Sequence[_Piece]], how: driver.Plan, slots: int
) -> Iterator[driver.Start]:
    """Where the lanes of each chunk begin, each with its own rule; what runs past the end repeats the last lane."""
    drawn, own, numbers = -1, None, _stacked([work.rule for work in works])
    for pieces in chunks:
        parts = []
        for piece in pieces:
            if piece.work != drawn:  # pieces of a work follow one another
                own, drawn = _drawn(works[piece.work], how.width, slots), piece.work
            parts.append(jax.tree.map(lambda x, piece=piece: x[piece.begin : piece.end], own))
        vectors, xi, outside = jax.tree.map(lambda *each: np.concatenate(each), *parts)
        each = np.repeat([piece.work for piece in pieces], [piece.end - piece.begin for piece in pieces])
        index = np.minimum(np.arange(how.width * how.blocks), len(each) - 1)
        rule = jax.tree.map(lambda values, chosen=each[index]: values[chosen], numbers)
        yield driver.Start(vectors[index], Known(xi, outside), rule=rule)


def _stacked(rules: Sequence[Rule]) -> Rule | None:
    """One rule, whose numbers are those of all; None where all are the same."""
    first, *others = ([np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(rule)] for rule in rules)
    if all(np.array_equal(a, b) for leaves in others for a, b in zip(first, leaves, strict=True)):
        return None
    if any(leaf.ndim for leaf in first):
        raise ValueError(f"rule: expected single numbers, to have a value of them in every lane; got {rules[0]!r}")
    return jax.tree.map(lambda *values: np.asarray(values, np.float64), *rules)


def _drawn(work: Work, width: int, slots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start vectors, ξ_0 and what lies outside, of all lanes of a work."""
    (start,) = work.starts(driver.Plan(width, -(-slots // width), 1))
    vectors = np.asarray(start.vectors)
    whole = (vectors.reshape(-1, vectors.shape[-1]), start.known.xi, start.known.outside)
    return tuple(each[:slots] for each in whole)  # type: ignore[return-value]


def _of_its_own(run: Run) -> Run:
    """The same with the table of the selections that its lanes have, numbered in order of appearance."""
    used, first, number = np.unique(run.selection_number, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rows = {name: getattr(run, name)[used[order]] for name in TABLE}
    return dataclasses.replace(run, selection_number=np.argsort(order)[number.ravel()], **rows)


TABLE = ("selections", "limit_norm", "limit_status", "locally_optimal", "support")

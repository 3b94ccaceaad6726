"""Lanes that go on by themselves, each to the same marks in its own time: what they carry."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxsim._tree import pytree
from jaxsim.driver.steps import Model, State, rounded
from jaxsim.model.gradient import Tree, nothing_below
from jaxsim.model.sums import Exact, minus

LONGEST = 2**20  # single steps of one lane, or leaps
TOLERANCE = {64: 5e-13, 32: 3e-7}  # of the error of a leap, relative to the parameters
KNOWN = {64: 8, 32: 4}  # increments that are known beside the one where the lane is

PerLane = Float[Array, " lanes"]
PerLaneWhole = Int[Array, " lanes"]


@pytree
class Past:
    """Increments that a lane has made, in no order. The last axis of every array runs over lanes.

    Attributes:
        increments: of parameters and of what the rule remembers, (KNOWN, …, lanes).
        ago: how many steps ago; infinite where none is known.
    """

    increments: State
    ago: Float[Array, "known lanes"]

    def and_then(self, increments: State, length: PerLane) -> "Past":
        """The same some steps later, with those made at the first of them in place of the oldest.

        Nothing changes where the length is 0.
        """
        oldest = jnp.arange(len(self.ago))[:, None] == jnp.argmax(self.ago, axis=0)
        new = oldest & (length > 0)

        def joined(known: Array, x: Array) -> Array:
            return jnp.where(new.reshape(len(new), *[1] * (x.ndim - 1), -1), x, known)

        ago = jnp.where(new, length, self.ago + length)
        return Past(jax.tree.map(joined, self.increments, increments), ago)


@pytree
class Lanes:
    """What a leaping run carries. The last axis of every array runs over lanes.

    Attributes:
        state: parameters, each with what rounding has left out of it, and the rule's memory.
        mark: how many marks (steps to be recorded) the lane has come to.
        elapsed: steps since the last of them.
        stretch: the logarithm of the factor in k of the next leap.
        fast: lanes that are stepped.
        ended: lanes that go no further: at a minimum, too slow to move before the last mark, not finite, or stuck.
        stepped, leaps, refused: how many single steps, leaps, and leaps not taken.
        began: the step from which the lane first leapt; NaN where it never did.
        error: the sum of the errors of all leaps, relative to the parameters.
        stuck: the step at which a lane had been fast, or had leapt, for too long; NaN where it never had.
        past: the increments that are known, of lanes that leap; None of others.
        pace: of a rule whose increments tend to a constant, what is known of that constant; None of others.
    """

    state: State
    mark: PerLaneWhole
    elapsed: PerLane
    stretch: PerLane
    fast: Bool[Array, " lanes"]
    ended: Bool[Array, " lanes"]
    stepped: PerLane
    leaps: PerLane
    refused: PerLane
    began: PerLane
    error: PerLane
    stuck: PerLane
    past: Any = None
    pace: Any = None

    def report(self) -> dict[str, PerLane]:
        """What is told of every lane; `leap_error` is the bound."""
        return {
            "leaps": self.leaps,
            "leaps_refused": self.refused,
            "single_steps": self.stepped,
            "leapt_from": self.began,
            "leap_error": self.error,
            "stuck_at": self.stuck,
        }

    def but(self, **changes: Any) -> "Lanes":
        """The same with some attributes changed."""
        return Lanes(**{**vars(self), **changes})


@pytree
class Arrivals:
    """Parameters at marks that lanes have come to, slot by slot, and which marks; NONE where a lane came to none."""

    params: tuple[Tree, ...]  # (slots, …, lanes) each
    mark: Int[Array, "slots lanes"]


NONE = 2**31 - 1  # beyond all marks, so that nothing is written there


def begin(state: State, residual: tuple[Tree, ...], made: Float[Array, ""]) -> Lanes:
    """Lanes that have been stepped to the first mark, the step `made`."""
    exact, leaf = State(jax.tree.map(Exact, state.params, residual), state.memory), jax.tree.leaves(residual)[0]
    zero, none = jnp.zeros(leaf.shape[-1:], leaf.dtype), jnp.full(leaf.shape[-1:], jnp.nan, leaf.dtype)
    yes = jnp.ones(zero.shape, bool)
    return Lanes(
        state=exact,
        mark=jnp.zeros(zero.shape, jnp.int32),
        elapsed=zero,
        stretch=zero,
        fast=yes,
        ended=~yes,
        stepped=zero + made,
        leaps=zero,
        refused=zero,
        began=none,
        error=zero,
        stuck=none,
    )


def nothing_known(state: State, like: PerLane) -> Past:
    """The past of lanes none of whose increments are known."""
    count = KNOWN[jnp.finfo(like.dtype).bits]
    zeros = jax.tree.map(jnp.zeros_like, State(rounded(state).params, minus(state.memory, state.memory)))
    increments = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), zeros)
    return Past(increments, jnp.full((count, *like.shape), jnp.inf, like.dtype))


def clock(lanes: Lanes, marks: Float[Array, " R"]) -> tuple[PerLane, PerLane, Bool[Array, " lanes"]]:
    """The step of the last mark, how many steps lie between it and the next, and which lanes go on."""
    last = len(marks) - 1
    start, end = marks[lanes.mark], marks[jnp.minimum(lanes.mark + 1, last)]
    return start, end - start, (lanes.mark < last) & ~lanes.ended


def arrived(lanes: Lanes, at: Bool[Array, " lanes"]) -> Lanes:
    """The same where lanes have come to their next mark."""
    return lanes.but(mark=lanes.mark + at.astype(lanes.mark.dtype), elapsed=jnp.where(at, 0.0, lanes.elapsed))


def at_marks(lanes: Lanes, begun: Bool[Array, " lanes"], marks: Float[Array, " R"]) -> tuple[Lanes, Arrivals]:
    """Lanes after their steps, and the arrivals of those that have come to their next mark."""
    landed = begun & (lanes.elapsed >= clock(lanes, marks)[1])
    params = jax.tree.map(lambda x: x[None], rounded(lanes.state).params)
    return arrived(lanes, landed), Arrivals(params, jnp.where(landed, lanes.mark, NONE)[None])


def at_rest(model: Model, state: State, step: PerLane) -> Bool[Array, " lanes"]:
    """Lanes at a minimum: their gradient is what rounding leaves, and so are their increments."""
    gradient = model.gradient(state.params, step)
    if any(block.terms is None for block in gradient.blocks):
        return jnp.zeros(step.shape, bool)
    terms = math.prod(model.logits(state.params).shape[:-1])
    return gradient.log_cancellation <= nothing_below(terms, step.dtype)

r"""Leaps: slow lanes follow the flow of which their iterates are samples, fast ones the map itself.

A lane leaps by the formulas of orders 8, 5 and 3 of Dormand and Prince (DOP853: Hairer, Nørsett, Wanner, Solving
Ordinary Differential Equations I) in a logarithmic time σ of its own,

    k = k_0 + s (e^σ - 1),     dx/dσ = s e^σ log(1+Δ) x

where s, in steps, is the time over which its increments change: far from a change of mind a leap is a factor in k,
and just after one it is short again. A leap is taken if two errors are small: that of the formulas, and the last term
of the generator's series summed over the leap. Where the series fails, the iterates are no samples of a slow flow, and
the lane is stepped.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxsim._tree import pytree
from jaxsim.driver.generator import HIGHEST, LOWEST, generator
from jaxsim.driver.trajectory import Model, State, advance
from jaxsim.model import sums
from jaxsim.model.gradient import Tree, nothing_below
from jaxsim.model.sums import Exact, minus, plus
from jaxsim.rules.base import Rule

STAGES = 12  # of DOP853
ATTEMPTS = 8  # leaps before lanes are sorted again
STEPS = 256  # single steps before lanes are sorted again
SHORT = 64  # a leap of fewer steps costs more than they do
LONGEST = 2**20  # single steps of one lane
FIRST, LONG = 0.1, 3.0  # lengths in σ of a first leap, and of the longest
SAFETY = 0.3  # share of its allowed error that a leap aims at by its order
TOLERANCE = {64: 3e-11, 32: 1e-6}  # of either error of a leap, relative to the parameters

PerLane = Float[Array, " lanes"]
PerLaneWhole = Int[Array, " lanes"]


@pytree
class Lanes:
    """What a leaping run carries. The last axis of every array runs over lanes.

    Attributes:
        state: parameters, each with what rounding has left out of it, and the rule's memory.
        mark: how many marks (steps to be recorded) the lane has come to.
        elapsed: steps since the last of them.
        scale, stretch: s, and the length of the next leap in σ.
        order: J of the next leap.
        fast: lanes that are stepped.
        ended: lanes that go no further: at a minimum, not finite, or fast for too long.
        stepped, leaps, refused: how many single steps, leaps, and leaps not taken.
        began: the step from which the lane first leapt; NaN where it never did.
        error: the sum of both errors of all leaps, relative to the parameters.
        stuck: the step at which a lane had been fast for too long; NaN where it never was.
    """

    state: State
    mark: PerLaneWhole
    elapsed: PerLane
    scale: PerLane
    stretch: PerLane
    order: PerLaneWhole
    fast: Bool[Array, " lanes"]
    ended: Bool[Array, " lanes"]
    stepped: PerLane
    leaps: PerLane
    refused: PerLane
    began: PerLane
    error: PerLane
    stuck: PerLane

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


def begin(state: State, residual: tuple[Tree, ...]) -> Lanes:
    """Lanes that have been stepped to the first mark."""
    exact, leaf = State(jax.tree.map(Exact, state.params, residual), state.memory), jax.tree.leaves(residual)[0]
    zero, none = jnp.zeros(leaf.shape[-1:], leaf.dtype), jnp.full(leaf.shape[-1:], jnp.nan, leaf.dtype)
    whole, yes = jnp.zeros(zero.shape, jnp.int32), jnp.ones(zero.shape, bool)
    return Lanes(
        exact, whole, zero, zero + 1, zero + FIRST, whole + HIGHEST, yes, ~yes, zero, zero, zero, none, zero, none
    )


def rounded(state: State) -> State:
    """The state in plain numbers, as models and rules know it."""
    return State(sums.rounded(state.params), state.memory)


def size(x: Tree) -> PerLane:
    """The largest entry of every lane."""
    return jnp.stack([jnp.abs(leaf).reshape(-1, leaf.shape[-1]).max(0) for leaf in jax.tree.leaves(x)]).max(0)


def where(chosen: Bool[Array, " lanes"], x: Tree, y: Tree) -> Tree:
    """The lanes of x that are chosen, and those of y that are not."""
    return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), x, y)


def clock(lanes: Lanes, marks: Float[Array, " R"]) -> tuple[PerLane, PerLane, Bool[Array, " lanes"]]:
    """The step of the last mark, how many steps lie between it and the next, and which lanes go on."""
    last = len(marks) - 1
    start, end = marks[lanes.mark], marks[jnp.minimum(lanes.mark + 1, last)]
    return start, end - start, (lanes.mark < last) & ~lanes.ended


def arrived(lanes: Lanes, at: Bool[Array, " lanes"]) -> Lanes:
    """The same where lanes have come to their next mark."""
    return lanes.but(mark=lanes.mark + at.astype(lanes.mark.dtype), elapsed=jnp.where(at, 0.0, lanes.elapsed))


def leap(model: Model, rule: Rule, lanes: Lanes, marks: Float[Array, " R"]) -> tuple[Lanes, Arrivals]:
    """Up to ATTEMPTS leaps of each slow lane, until it has come to the last mark or is fast."""
    from scipy.integrate import DOP853  # slow to import, and only leaps need it

    dtype = lanes.elapsed.dtype
    tolerance = TOLERANCE[jnp.finfo(dtype).bits]
    A, B, C, E3, E5 = (jnp.asarray(t, dtype) for t in (DOP853.A, DOP853.B, DOP853.C, DOP853.E3[:-1], DOP853.E5[:-1]))

    def look(state: State, made: PerLane, *orders: PerLaneWhole) -> list[tuple[State, PerLane]]:
        """dx/dk to each of the orders, and the size of the last term of its series."""
        found = generator(model, rule, rounded(state), made, orders)
        return [(slope, size(term)) for slope, term in found]

    def combined(weights: Array, stages: Tree) -> Tree:
        return jax.tree.map(lambda s: functools.reduce(jnp.add, [weights[j] * s[j] for j in range(STAGES)]), stages)

    def attempt(carry):
        lanes, slope, rest, waits, arrivals, tries = carry
        start, gap, going = clock(lanes, marks)
        active, made, remaining = going & ~lanes.fast & ~waits, start + lanes.elapsed, gap - lanes.elapsed
        lands = lanes.stretch >= jnp.log1p(remaining / lanes.scale)
        wanted = jnp.rint(lanes.scale * jnp.expm1(lanes.stretch))
        length = jnp.where(lands, remaining, jnp.clip(wanted, 1.0, remaining))
        sigma = jnp.log1p(length / lanes.scale)

        def speed(i):
            return sigma * lanes.scale * jnp.exp(C[i] * sigma)

        def stage(i, stages):
            there = plus(lanes.state, combined(A[i], stages))
            at = made + lanes.scale * jnp.expm1(C[i] * sigma)
            ((slope, _),) = generator(model, rule, rounded(there), at, (lanes.order,), doubt=False)
            return jax.tree.map(lambda s, f: s.at[i].set(f * speed(i)), stages, slope)

        first = jax.tree.map(lambda f: jnp.zeros((STAGES, *f.shape), f.dtype).at[0].set(f * speed(0)), slope)
        stages = lax.fori_loop(1, STAGES, stage, first)
        there = plus(lanes.state, combined(B, stages))
        orders = jnp.maximum(lanes.order - 1, LOWEST), lanes.order, jnp.minimum(lanes.order + 1, HIGHEST)
        choices = look(there, made + length, *orders)
        slope_there, rest_there = choices[1]

        large = jnp.maximum(size(rounded(lanes.state).params), 1.0)
        five, three = (size(combined(E, stages.params)) for E in (E5, E3))
        both = jnp.sqrt(five**2 + 0.01 * three**2)
        local = jnp.where(both == 0, 0.0, five * five / both) / large
        left = sigma * lanes.scale * jnp.maximum(rest, rest_there * jnp.exp(sigma)) / large
        smooth, sound = left <= tolerance * jnp.maximum(sigma, 0.1), jnp.isfinite(size(rounded(there).params))
        taken = active & smooth & (local <= tolerance) & sound
        higher = active & ~smooth & sound & (lanes.order < HIGHEST)

        bend = size(minus(slope_there.params, slope.params))
        age = jnp.where(bend == 0, jnp.inf, length * size(slope.params) / bend)
        scale = jnp.where(taken, jnp.clip(age, 1.0, 1e3 * (length + lanes.scale)), lanes.scale)
        factor = jnp.clip(0.9 * (tolerance / local) ** 0.125, 0.2, 4.0)
        stretch = sigma * jnp.where(jnp.isnan(factor), 0.2, factor)
        stretch = jnp.minimum(jnp.where(taken & lands, jnp.maximum(stretch, lanes.stretch), stretch), LONG)
        short = scale * jnp.expm1(stretch) < SHORT
        # The next leap takes as few terms as its error allows.
        room = SAFETY * tolerance * jnp.maximum(stretch, 0.1) * large / (stretch * scale * jnp.exp(stretch))
        below, same, above = (jnp.where(taken, after, lanes.order) for after in orders)
        order = jnp.where(choices[0][1] <= room, below, jnp.where(rest_there <= room, same, above))
        after = lanes.but(
            state=where(taken, there, lanes.state),
            elapsed=lanes.elapsed + jnp.where(taken, length, 0.0),
            scale=scale,
            stretch=jnp.where(active, stretch, lanes.stretch),
            order=jnp.where(higher, lanes.order + 1, order),
            fast=lanes.fast | (active & (short | (~smooth & ~higher))),
            leaps=lanes.leaps + taken.astype(dtype),
            refused=lanes.refused + (active & ~taken).astype(dtype),
            began=jnp.where(taken & jnp.isnan(lanes.began), made, lanes.began),
            error=lanes.error + jnp.where(taken, local + left, 0.0),
        )
        for k, known in enumerate(choices):
            slope, rest = where(taken & (order == orders[k]), known, (slope, rest))
        params = jax.tree.map(lambda all, x: all.at[tries].set(x), arrivals.params, rounded(after.state).params)
        landed = taken & lands
        arrivals = Arrivals(params, arrivals.mark.at[tries].set(jnp.where(landed, lanes.mark, NONE)))
        return arrived(after, landed), slope, rest, waits | higher, arrivals, tries + 1

    def more(carry):
        lanes, waits, tries = carry[0], carry[3], carry[-1]
        return (tries < ATTEMPTS) & jnp.any(clock(lanes, marks)[2] & ~lanes.fast & ~waits)

    here = rounded(lanes.state).params
    none = jnp.full((ATTEMPTS, *lanes.mark.shape), NONE, lanes.mark.dtype)
    arrivals = Arrivals(jax.tree.map(lambda x: jnp.zeros((ATTEMPTS, *x.shape), x.dtype), here), none)
    (known,) = look(lanes.state, clock(lanes, marks)[0] + lanes.elapsed, lanes.order)
    waits = jnp.zeros(lanes.fast.shape, bool)
    lanes, *_, arrivals, _ = lax.while_loop(more, attempt, (lanes, *known, waits, arrivals, jnp.int32(0)))
    return lanes, arrivals


def at_rest(model: Model, state: State, step: PerLane) -> Bool[Array, " lanes"]:
    """Lanes at a minimum: their gradient is what rounding leaves, and its flow would be one of noise."""
    gradient = model.gradient(state.params, step)
    if any(block.terms is None for block in gradient.blocks):
        return jnp.zeros(step.shape, bool)
    terms = math.prod(model.logits(state.params).shape[:-1])
    return gradient.log_cancellation <= nothing_below(terms, step.dtype)


def steps(model: Model, rule: Rule, lanes: Lanes, marks: Float[Array, " R"]) -> tuple[Lanes, Arrivals]:
    """Up to STEPS single steps of each fast lane, no further than the next mark; then whether it has become slow."""
    dtype = lanes.elapsed.dtype
    tolerance = TOLERANCE[jnp.finfo(dtype).bits]
    start, gap, going = clock(lanes, marks)
    begun = going & lanes.fast

    def one(_, carry):
        state, elapsed, count = carry
        after, moved = advance(model, rule, rounded(state), start + elapsed)
        on = begun & (elapsed < gap)
        state, more = where(on, State(plus(state.params, moved), after.memory), state), on.astype(dtype)
        return state, elapsed + more, count + more  # beyond 2^53 one step more is the same number of them

    most = jnp.minimum(jnp.where(begun, gap - lanes.elapsed, 0.0).max(), STEPS).astype(jnp.int32)
    state, elapsed, stepped = lax.fori_loop(0, most, one, (lanes.state, lanes.elapsed, lanes.stepped))
    here, made = rounded(state), start + elapsed
    after, moved = advance(model, rule, here, made)
    _, next_moved = advance(model, rule, after, made + 1)
    speed, bend = size(moved), size(minus(next_moved, moved))
    scale = jnp.clip(jnp.where(bend == 0, jnp.inf, speed / bend), 1.0, made + 1)
    ((_, term),) = generator(model, rule, here, made, (jnp.full(scale.shape, HIGHEST, jnp.int32),))
    large = jnp.maximum(size(here.params), 1.0)
    rest = at_rest(model, here, made)
    slow = begun & ~rest & (size(term) * scale <= tolerance * large) & (scale * math.expm1(FIRST) >= SHORT)
    still = rest | (speed * (marks[-1] - made) <= jnp.finfo(dtype).eps * large) | ~jnp.isfinite(speed)
    stuck = begun & ~slow & ~still & (stepped >= LONGEST)
    lanes = lanes.but(
        state=state,
        elapsed=elapsed,
        scale=jnp.where(slow, scale, lanes.scale),
        stretch=jnp.where(slow, FIRST, lanes.stretch),
        order=jnp.where(slow, HIGHEST, lanes.order),
        fast=lanes.fast & ~slow,
        ended=lanes.ended | (begun & still) | stuck,
        stepped=stepped,
        stuck=jnp.where(stuck, made, lanes.stuck),
    )
    landed = begun & (elapsed >= gap)
    arrivals = Arrivals(jax.tree.map(lambda x: x[None], here.params), jnp.where(landed, lanes.mark, NONE)[None])
    return arrived(lanes, landed), arrivals

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
from scipy.integrate import DOP853

from jaxsim._tree import pytree
from jaxsim.driver.generator import HIGHEST, LOWEST, generator
from jaxsim.driver.trajectory import Model, State, advance
from jaxsim.model import sums
from jaxsim.model.gradient import Tree, nothing_below
from jaxsim.model.sums import Exact, minus, plus
from jaxsim.rules.base import Rule

STAGES = len(DOP853.B)
ATTEMPTS = 8  # leaps before lanes are sorted again
STEPS = 256  # single steps before lanes are sorted again
SHORT = 64  # a leap of fewer steps costs more than they do
LONGEST = 2**20  # single steps of one lane
FIRST, LONG = 0.1, 3.0  # lengths in σ of a first leap, and of the longest
TOLERANCE = {64: 1e-11, 32: 1e-6}  # of either error of a leap, relative to the parameters

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
    dtype = lanes.elapsed.dtype
    tolerance = TOLERANCE[jnp.finfo(dtype).bits]
    A, B, C, E3, E5 = (jnp.asarray(t, dtype) for t in (DOP853.A, DOP853.B, DOP853.C, DOP853.E3[:-1], DOP853.E5[:-1]))

    def field(lanes: Lanes, state: State, made: PerLane, doubt: bool = True):
        return generator(model, rule, rounded(state), made, lanes.order, doubt)

    def combined(weights: Array, stages: Tree) -> Tree:
        return jax.tree.map(lambda s: functools.reduce(jnp.add, [weights[j] * s[j] for j in range(STAGES)]), stages)

    def attempt(carry):
        lanes, slope, term, arrivals, tries = carry
        start, gap, going = clock(lanes, marks)
        active, made, remaining = going & ~lanes.fast, start + lanes.elapsed, gap - lanes.elapsed
        lands = lanes.stretch >= jnp.log1p(remaining / lanes.scale)
        wanted = jnp.rint(lanes.scale * jnp.expm1(lanes.stretch))
        length = jnp.where(lands, remaining, jnp.clip(wanted, 1.0, remaining))
        sigma = jnp.log1p(length / lanes.scale)

        def speed(i):
            return sigma * lanes.scale * jnp.exp(C[i] * sigma)

        def stage(i, stages):
            there = plus(lanes.state, combined(A[i], stages))
            slope, _ = field(lanes, there, made + lanes.scale * jnp.expm1(C[i] * sigma), doubt=False)
            return jax.tree.map(lambda s, f: s.at[i].set(f * speed(i)), stages, slope)

        first = jax.tree.map(lambda f: jnp.zeros((STAGES, *f.shape), f.dtype).at[0].set(f * speed(0)), slope)
        stages = lax.fori_loop(1, STAGES, stage, first)
        there = plus(lanes.state, combined(B, stages))
        slope_there, term_there = field(lanes, there, made + length)

        large = jnp.maximum(size(rounded(lanes.state).params), 1.0)
        five, three = (size(combined(E, stages.params)) for E in (E5, E3))
        both = jnp.sqrt(five**2 + 0.01 * three**2)
        local = jnp.where(both == 0, 0.0, five * five / both) / large
        left = sigma * lanes.scale * jnp.maximum(size(term), size(term_there) * jnp.exp(sigma)) / large
        allowed = tolerance * jnp.maximum(sigma, 0.1)
        smooth, sound = left <= allowed, jnp.isfinite(size(rounded(there).params))
        taken = active & smooth & (local <= tolerance) & sound
        far = size(slope.params) * sigma * lanes.scale / large  # how far the leap goes
        one_less = far * lanes.scale ** (2.0 - lanes.order.astype(dtype))  # about what the last term would then be
        lower = taken & (lanes.order > LOWEST) & (10 * one_less <= allowed)
        higher = active & ~smooth & sound & (lanes.order < HIGHEST)

        bend = size(minus(slope_there.params, slope.params))
        age = jnp.where(bend == 0, jnp.inf, length * size(slope.params) / bend)
        scale = jnp.where(taken, jnp.clip(age, 1.0, 1e3 * (length + lanes.scale)), lanes.scale)
        factor = jnp.clip(0.9 * (tolerance / local) ** 0.125, 0.2, 4.0)
        stretch = sigma * jnp.where(jnp.isnan(factor), 0.2, factor)
        stretch = jnp.minimum(jnp.where(taken & lands, jnp.maximum(stretch, lanes.stretch), stretch), LONG)
        short = scale * jnp.expm1(stretch) < SHORT
        after = lanes.but(
            state=where(taken, there, lanes.state),
            elapsed=lanes.elapsed + jnp.where(taken, length, 0.0),
            scale=scale,
            stretch=jnp.where(active, stretch, lanes.stretch),
            order=lanes.order + higher.astype(jnp.int32) - lower.astype(jnp.int32),
            fast=lanes.fast | (active & (short | (~smooth & ~higher))),
            leaps=lanes.leaps + taken.astype(dtype),
            refused=lanes.refused + (active & ~taken).astype(dtype),
            began=jnp.where(taken & jnp.isnan(lanes.began), made, lanes.began),
            error=lanes.error + jnp.where(taken, local + left, 0.0),
        )
        known = where(taken, (slope_there, term_there), (slope, term))
        changed, made = lower | higher, jnp.where(taken, made + length, made)
        known = lax.cond(changed.any(), lambda: where(changed, field(after, after.state, made), known), lambda: known)
        params = jax.tree.map(lambda all, x: all.at[tries].set(x), arrivals.params, rounded(after.state).params)
        landed = taken & lands
        arrivals = Arrivals(params, arrivals.mark.at[tries].set(jnp.where(landed, lanes.mark, NONE)))
        return arrived(after, landed), *known, arrivals, tries + 1

    def more(carry):
        lanes, tries = carry[0], carry[-1]
        return (tries < ATTEMPTS) & jnp.any(clock(lanes, marks)[2] & ~lanes.fast)

    here = rounded(lanes.state).params
    none = jnp.full((ATTEMPTS, *lanes.mark.shape), NONE, lanes.mark.dtype)
    arrivals = Arrivals(jax.tree.map(lambda x: jnp.zeros((ATTEMPTS, *x.shape), x.dtype), here), none)
    known = field(lanes, lanes.state, clock(lanes, marks)[0] + lanes.elapsed)
    lanes, _, _, arrivals, _ = lax.while_loop(more, attempt, (lanes, *known, arrivals, jnp.int32(0)))
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
        state, elapsed = carry
        after, moved = advance(model, rule, rounded(state), start + elapsed)
        on = begun & (elapsed < gap)
        return where(on, State(plus(state.params, moved), after.memory), state), elapsed + on.astype(dtype)

    most = jnp.minimum(jnp.where(begun, gap - lanes.elapsed, 0.0).max(), STEPS).astype(jnp.int32)
    state, elapsed = lax.fori_loop(0, most, one, (lanes.state, lanes.elapsed))
    here, made = rounded(state), start + elapsed
    after, moved = advance(model, rule, here, made)
    _, next_moved = advance(model, rule, after, made + 1)
    speed, bend = size(moved), size(minus(next_moved, moved))
    scale = jnp.clip(jnp.where(bend == 0, jnp.inf, speed / bend), 1.0, made + 1)
    _, term = generator(model, rule, here, made, jnp.full(scale.shape, HIGHEST, jnp.int32))
    large = jnp.maximum(size(here.params), 1.0)
    rest = at_rest(model, here, made)
    slow = begun & ~rest & (size(term) * scale <= tolerance * large) & (scale * math.expm1(FIRST) >= SHORT)
    still = rest | (speed * (marks[-1] - made) <= jnp.finfo(dtype).eps * large) | ~jnp.isfinite(speed)
    stepped = lanes.stepped + (elapsed - lanes.elapsed)
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

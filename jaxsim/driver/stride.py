r"""Strides: lanes whose increments tend to a constant, not to zero, go on in a straight line.

Steps of a normalised rule keep their length. Once the weights of the support tokens have settled, which takes
O(1/η) steps, and those of all other tokens have died out, W grows by the same matrix v in every step, or goes around
one cycle: W_{k+M} = W_k + M v, up to what the weights still change. So a lane is stepped, a window after the other,
until two windows agree on their mean increment to rounding (it has settled); it strides, and settles again. Where it
settles is a post, and v is the mean increment from post to post, over which rounding counts as at one step.

A stride is at most GROWTH times as long as the time from the post before, over which the mean increment is known, and
its error is what the drift from post to post says of it. Where a token that had died out comes back, the increments at
the end of a stride are others than v: it is not taken, and a shorter one is tried.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxsim._tree import pytree
from jaxsim.driver.engine import Engine
from jaxsim.driver.lanes import Arrivals, Lanes, PerLane, at_marks, at_rest, clock
from jaxsim.driver.single import single_steps
from jaxsim.driver.steps import Model, State, advance, rounded, size, where
from jaxsim.model.gradient import Tree
from jaxsim.model.sums import minus, plus
from jaxsim.rules.base import Rule, times

TOLERANCE = {64: 3e-11, 32: 1e-6}  # of the error of a stride, relative to the parameters
WINDOW = 256  # steps; a cycle of 2, 4, … 256 of them has a mean
LOOK = 8  # steps that are made at the end of a stride before it is taken
GROWTH = 16.0
NOISE = 16.0  # roundings of the parameters by which settled lanes jitter
LONGEST = 2**22  # single steps of one lane between two strides
AHEAD = 4 * WINDOW  # a stride ends so many steps before a record, which settled lanes come to


@pytree
class Pace:
    """What is known of the increments of every lane.

    Attributes:
        last: the mean increment of the last window; NaN before the first.
        post: the parameters where the lane had last settled; `at` which step.
        velocity: v, the mean increment from the post before to that one; NaN where there was none.
        span: the steps between those two.
        most: the longest stride, in steps since the post.
        waits: single steps since the last stride.
    """

    last: tuple[Tree, ...]
    post: tuple[Tree, ...]
    at: PerLane
    velocity: tuple[Tree, ...]
    span: PerLane
    most: PerLane
    waits: PerLane


def pace(lanes: Lanes) -> Pace:
    """Of lanes of which nothing is known."""
    params = lanes.state.params
    unknown = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), rounded(lanes.state).params)
    zero = jnp.zeros_like(lanes.elapsed)
    return Pace(unknown, params, zero, unknown, zero, zero + GROWTH, zero)


def _off(model: Model, rule: Rule, state: State, step: PerLane, velocity: tuple[Tree, ...]) -> PerLane:
    """By how much the mean increment of the next steps differs from v."""

    def one(j, carry):
        here, moved = carry
        here, more = advance(model, rule, here, step + j.astype(step.dtype))
        return here, jax.tree.map(jnp.add, moved, more)

    here = rounded(state)
    nothing = jax.tree.map(jnp.zeros_like, here.params)
    _, moved = lax.fori_loop(0, LOOK, one, (here, nothing))
    return size(jax.tree.map(lambda x, v: x / LOOK - v, moved, velocity))


def stride(model: Model, rule: Rule, lanes: Lanes, marks: Float[Array, " R"], by: Engine) -> tuple[Lanes, Arrivals]:
    """One window of single steps of each lane, no further than its next mark; then a stride, where it has settled."""
    dtype = lanes.elapsed.dtype
    eps, tolerance = jnp.finfo(dtype).eps, TOLERANCE[jnp.finfo(dtype).bits]
    start, gap, begun = clock(lanes, marks)
    on, _ = single_steps(model, rule, lanes, marks, begun, WINDOW, by)
    known, params, made = lanes.pace, on.state.params, start + on.elapsed
    whole = begun & (on.elapsed - lanes.elapsed == WINDOW)
    here = rounded(on.state)
    large = jnp.maximum(size(here.params), 1.0)

    lost = NOISE * eps * large >= 1  # rounding of logits turns the weights of support tokens

    seen = jax.tree.map(lambda x: x / WINDOW, minus(params, lanes.state.params))
    settled = whole & (size(minus(seen, known.last)) <= NOISE * eps * large / WINDOW)
    since = made - known.at
    velocity = times(1 / jnp.maximum(since, 1.0), minus(params, known.post))
    drift = size(minus(velocity, known.velocity)) / (since + known.span)  # per step
    allowed = max(tolerance, 4 * NOISE * GROWTH**2 * eps) * large
    room = 2 * allowed / (drift * since + jnp.sqrt((drift * since) ** 2 + 4 * drift * allowed))  # drift M (since + M)
    constant = settled & (room >= AHEAD)
    wanted = jnp.floor(jnp.minimum(jnp.minimum(room, known.most * since), gap - on.elapsed - AHEAD))
    length = jnp.where(constant & (wanted >= AHEAD) & ~lost, wanted, 0.0)

    there = State(plus(params, times(length, velocity)), on.state.memory)
    off = _off(model, rule, there, made + length, velocity)
    settles = jnp.minimum(NOISE * (2 * GROWTH * eps * large + tolerance), 0.1) * size(velocity)
    taken = (length > 0) & (off <= settles)
    # What came back has grown from below rounding over the stride, and so exponentially.
    error = (drift * length * (since + length) + off * length / -math.log(eps)) / large

    refused = (length > 0) & ~taken
    most = jnp.where(refused, known.most / 4, jnp.where(taken, jnp.minimum(2 * known.most, GROWTH), known.most))
    anew = settled & ~constant  # a post of its own: nothing is known of what went before
    waits = jnp.where(taken, 0.0, known.waits + on.stepped - lanes.stepped)
    still = at_rest(model, here, made) | (size(seen) == 0) | ~jnp.isfinite(large)
    stuck = begun & ~still & (lost | (waits >= LONGEST))
    after = on.but(
        state=where(taken, there, on.state),
        elapsed=on.elapsed + jnp.where(taken, length, 0.0),
        leaps=lanes.leaps + taken.astype(dtype),
        refused=lanes.refused + refused.astype(dtype),
        began=jnp.where(taken & jnp.isnan(lanes.began), made, lanes.began),
        error=lanes.error + jnp.where(taken, error, 0.0),
        ended=lanes.ended | (begun & still) | stuck,
        stuck=jnp.where(stuck, made, lanes.stuck),
        pace=Pace(
            where(whole, seen, known.last),
            where(taken | anew, params, known.post),
            jnp.where(taken | anew, made, known.at),
            where(taken, velocity, where(anew, seen, known.velocity)),
            jnp.where(taken, since, jnp.where(anew, float(WINDOW), known.span)),
            most,
            waits,
        ),
    )
    return at_marks(after, begun, marks)

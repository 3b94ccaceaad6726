r"""Leaps: slow lanes follow the flow of which their iterates are samples, fast ones the map itself.

A lane leaps by the formulas of orders 8, 5 and 3 of Dormand and Prince (DOP853: Hairer, Nørsett, Wanner, Solving
Ordinary Differential Equations I) in a logarithmic time σ of its own,

    k = k_0 + s (e^σ - 1),     dx/dσ = s e^σ log(1+Δ) x

where s, in steps, is the time over which its increments change: far from a change of mind a leap is a factor in k,
and just after one it is short again. A leap is taken if two errors are small: that of the formulas, and the last term
of the generator's series summed over the leap. Where the series fails, the iterates are no samples of a slow flow, and
the lane is stepped.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxsim.driver.engine import Engine
from jaxsim.driver.generator import HIGHEST, LOWEST
from jaxsim.driver.lanes import (
    FIRST,
    LONGEST,
    NONE,
    TOLERANCE,
    Arrivals,
    Lanes,
    PerLane,
    PerLaneWhole,
    arrived,
    at_marks,
    at_rest,
    clock,
    single_steps,
)
from jaxsim.driver.steps import Model, State, advance, rounded, size, where
from jaxsim.model.sums import minus
from jaxsim.rules.base import Rule

ATTEMPTS = 4  # leaps before lanes are sorted again
STEPS = 128  # single steps before lanes are sorted again
SHORT = 64  # a leap of fewer steps costs more than they do
LONG = 3.0  # length in σ of the longest leap
SAFETY = 0.3  # share of its allowed error that a leap aims at by its order


def leap(model: Model, rule: Rule, lanes: Lanes, marks: Float[Array, " R"], by: Engine) -> tuple[Lanes, Arrivals]:
    """Up to ATTEMPTS leaps of each slow lane, until it has come to the last mark or is fast."""
    dtype = lanes.elapsed.dtype
    tolerance = TOLERANCE[jnp.finfo(dtype).bits]

    def look(state: State, made: PerLane, *orders: PerLaneWhole) -> list[tuple[State, PerLane]]:
        """dx/dk to each of the orders, and the size of the last term of its series."""
        return by.flow(model, rule, rounded(state), made, orders, True)

    def attempt(carry):
        lanes, slope, rest, waits, arrivals, tries = carry
        start, gap, going = clock(lanes, marks)
        active, made, remaining = going & ~lanes.fast & ~waits, start + lanes.elapsed, gap - lanes.elapsed
        lands = lanes.stretch >= jnp.log1p(remaining / lanes.scale)
        wanted = jnp.rint(lanes.scale * jnp.expm1(lanes.stretch))
        length = jnp.where(lands, remaining, jnp.clip(wanted, 1.0, remaining))
        sigma = jnp.log1p(length / lanes.scale)

        there, five, three = by.leap(model, rule, lanes.state, slope, lanes.scale, sigma, made, lanes.order)
        orders = jnp.maximum(lanes.order - 1, LOWEST), lanes.order, jnp.minimum(lanes.order + 1, HIGHEST)
        choices = look(there, made + length, *orders)
        slope_there, rest_there = choices[1]

        large = jnp.maximum(size(rounded(lanes.state).params), 1.0)
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


def steps(model: Model, rule: Rule, lanes: Lanes, marks: Float[Array, " R"], by: Engine) -> tuple[Lanes, Arrivals]:
    """Up to STEPS single steps of each fast lane, no further than the next mark; then whether it has become slow."""
    dtype = lanes.elapsed.dtype
    tolerance = TOLERANCE[jnp.finfo(dtype).bits]
    start, _, going = clock(lanes, marks)
    begun = going & lanes.fast
    on = single_steps(model, rule, lanes, marks, begun, STEPS, by)
    state, elapsed, stepped = on.state, on.elapsed, on.stepped
    here, made = rounded(state), start + elapsed
    after, moved = advance(model, rule, here, made)
    _, next_moved = advance(model, rule, after, made + 1)
    speed, bend = size(moved), size(minus(next_moved, moved))
    scale = jnp.clip(jnp.where(bend == 0, jnp.inf, speed / bend), 1.0, made + 1)
    ((_, term),) = by.flow(model, rule, here, made, (jnp.full(scale.shape, HIGHEST, jnp.int32),), True)
    large = jnp.maximum(size(here.params), 1.0)
    rest = at_rest(model, here, made)
    slow = begun & ~rest & (term * scale <= tolerance * large) & (scale * math.expm1(FIRST) >= SHORT)
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
    return at_marks(lanes, begun, marks)

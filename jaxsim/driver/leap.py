r"""Leaps: slow lanes go on by sums of increments of which only a few are computed; see `interpolant`.

A leap takes two evaluations of the map: one here, which joins the increments that are known, and one where these
foresee that the leap ends. The increment there differs from the one foreseen by a surprise. The sum is corrected by a
multiple of it, and another multiple is the error of the leap: by how much the sum would change if the oldest increment
were forgotten. A leap is taken if that is little, and the next one is the longer, the less it was.

What decays or swings within a few steps grows from leap to leap, as in any explicit method, until one is refused and
shorter ones too. Such lanes are stepped. So are those that hover about a minimum, where all that is left of their
increments is the error of the leaps: single steps take them to rest.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxsim.driver.interpolant import weights
from jaxsim.driver.lanes import LONGEST, TOLERANCE, Lanes, clock
from jaxsim.driver.steps import Model, State, change, rounded, size, where
from jaxsim.model.sums import minus, plus
from jaxsim.rules.base import Rule

MOST = 128  # leaps before lanes are looked at again
SHORT = 16.0  # a lane whose next leap would be of fewer steps is stepped
LONG = 3.0  # the longest leap, in log k
AIM = 0.5  # share of the allowed error that a leap aims at
HOVERS = 10.0  # a lane that moves by so many errors or less, and those little, hovers
SLOWER, FASTER = 0.3, 1.5  # bounds of a leap in log k over the one before


def leap(model: Model, rule: Rule, lanes: Lanes, marks: Float[Array, " R"]) -> Lanes:
    """Slow lanes, leap by leap, until each has come to its next mark or is fast, half have, or for MOST leaps."""
    dtype = lanes.elapsed.dtype
    tolerance = TOLERANCE[jnp.finfo(dtype).bits]
    start, gap, going = clock(lanes, marks)

    def active(lanes: Lanes) -> Array:
        return going & ~lanes.fast & ~lanes.ended & (lanes.elapsed < gap)

    def attempt(carry: tuple[Lanes, Array]) -> tuple[Lanes, Array]:
        lanes, tries = carry
        past, on, made, remaining = lanes.past, active(lanes), start + lanes.elapsed, gap - lanes.elapsed
        lands = lanes.stretch >= jnp.log1p(remaining / made)
        wanted = jnp.rint(made * jnp.expm1(lanes.stretch))
        wanted = jnp.where(2 * wanted > remaining, jnp.rint(remaining / 2), wanted)  # so that no crumb is left
        length = jnp.where(lands, remaining, jnp.clip(wanted, 1.0, remaining))
        stretch = jnp.log1p(length / made)

        by = weights(past.ago, made, length)
        here = change(model, rule, rounded(lanes.state), made)

        def combined(each: Array) -> State:
            def one(first: Array, older: Array) -> Array:
                return functools.reduce(jnp.add, [w * x for w, x in zip(each, (first, *older), strict=True)])

            return jax.tree.map(one, here, past.increments)

        sum, next = combined(by.sum), combined(by.next)
        surprise = minus(change(model, rule, rounded(plus(lanes.state, sum)), made + length), next)
        there = plus(lanes.state, jax.tree.map(lambda x, y: x + by.surprise * y, sum, surprise))
        large = jnp.maximum(size(rounded(lanes.state).params), 1.0)
        sound = jnp.isfinite(size(rounded(there).params)) & jnp.isfinite(by.doubt)
        local = jnp.where(sound, jnp.abs(by.doubt) * size(surprise.params) / large, jnp.inf)
        taken = on & (local <= tolerance)
        moves = size(sum.params) / large
        hovers = on & (moves <= HOVERS * local) & (moves <= HOVERS * tolerance)

        factor = jnp.clip(0.9 * (AIM * tolerance / local) ** (1 / (len(past.ago) + 2)), SLOWER, FASTER)
        after = jnp.minimum(stretch * factor, LONG)
        after = jnp.where(taken & lands, jnp.maximum(after, lanes.stretch), after)
        fast = hovers | (on & ((made + jnp.where(taken, length, 0.0)) * jnp.expm1(after) < SHORT))
        stuck = (fast & (lanes.stepped >= LONGEST)) | (on & (lanes.leaps + lanes.refused >= LONGEST))
        leapt = lanes.but(
            state=where(taken, there, lanes.state),
            past=past.and_then(here, jnp.where(taken, length, 0.0)),
            elapsed=jnp.where(taken & lands, gap, lanes.elapsed + jnp.where(taken, length, 0.0)),
            stretch=jnp.where(on, after, lanes.stretch),
            fast=lanes.fast | fast,
            leaps=lanes.leaps + taken.astype(dtype),
            refused=lanes.refused + (on & ~taken).astype(dtype),
            began=jnp.where(taken & jnp.isnan(lanes.began), made, lanes.began),
            error=lanes.error + jnp.where(taken, local, 0.0),
            ended=lanes.ended | stuck,
            stuck=jnp.where(stuck, made, lanes.stuck),
        )
        return leapt, tries + 1

    def more(carry: tuple[Lanes, Array]) -> Array:
        lanes, tries = carry
        return (2 * active(lanes).sum() > begun) & (tries < MOST)

    begun = active(lanes).sum()
    return lax.while_loop(more, attempt, (lanes, jnp.int32(0)))[0]

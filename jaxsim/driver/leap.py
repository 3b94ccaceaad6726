r"""Leaps: slow lanes go on by sums of increments of which only a few are computed; see `interpolant`.

A leap takes two evaluations of the map: one here, which joins the increments that are known, and one where these
foresee that the leap ends. By how much that is another increment than the one foreseen, the sum is corrected, and the
lane lands; so much the leap is in doubt, too. A leap is taken if forgetting the oldest increment would change its sum
by little, and the longer the next one, the less that was.

Lanes whose increments change within a few steps do not leap for long: whatever decays or swings over so few steps
grows from leap to leap, as in any explicit method, until one is refused and shorter ones too. They are stepped then.
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

SHORT = 16.0  # a leap of fewer steps costs more than they do
LONG = 3.0  # of the logarithm of k
AIM = 0.5  # share of the allowed error that a leap aims at
SLOWER, FASTER = 0.3, 1.5  # a leap is so much longer than the one before, at least and at most


def leap(model: Model, rule: Rule, lanes: Lanes, marks: Float[Array, " R"]) -> Lanes:
    """Each slow lane until it has come to its next mark or is fast, or until half of them have."""
    dtype = lanes.elapsed.dtype
    tolerance = TOLERANCE[jnp.finfo(dtype).bits]
    start, gap, going = clock(lanes, marks)

    def active(lanes: Lanes) -> Array:
        return going & ~lanes.fast & ~lanes.ended & (lanes.elapsed < gap)

    def attempt(lanes: Lanes) -> Lanes:
        past, on, made, remaining = lanes.past, active(lanes), start + lanes.elapsed, gap - lanes.elapsed
        lands = lanes.stretch >= jnp.log1p(remaining / made)
        wanted = jnp.rint(made * jnp.expm1(lanes.stretch))
        length = jnp.where(lands, remaining, jnp.clip(wanted, 1.0, remaining))
        stretch = jnp.log1p(length / made)

        by = weights(past.ago, made, length)
        here = change(model, rule, rounded(lanes.state), made)

        def combined(weights: Array) -> State:
            def one(first: Array, older: Array) -> Array:
                return functools.reduce(jnp.add, [w * x for w, x in zip(weights, (first, *older), strict=True)])

            return jax.tree.map(one, here, past.increments)

        sum, next = combined(by.sum), combined(by.next)
        surprise = minus(change(model, rule, rounded(plus(lanes.state, sum)), made + length), next)
        there = plus(lanes.state, jax.tree.map(lambda x, y: x + by.surprise * y, sum, surprise))
        large = jnp.maximum(size(rounded(lanes.state).params), 1.0)
        sound = jnp.isfinite(size(rounded(there).params))
        local = jnp.where(sound, jnp.abs(by.doubt) * size(surprise.params) / large, jnp.inf)
        taken = on & (local <= tolerance)

        factor = jnp.clip(0.9 * (AIM * tolerance / local) ** (1 / (len(past.ago) + 2)), SLOWER, FASTER)
        after = jnp.minimum(stretch * factor, LONG)
        after = jnp.where(taken & lands, jnp.maximum(after, lanes.stretch), after)
        fast = on & ((made + jnp.where(taken, length, 0.0)) * jnp.expm1(after) < SHORT)
        stuck = fast & (lanes.stepped >= LONGEST)
        return lanes.but(
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

    begun = active(lanes).sum()
    return lax.while_loop(lambda lanes: 2 * active(lanes).sum() > begun, attempt, lanes)

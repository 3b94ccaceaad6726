"""Single steps of lanes that go on by themselves, and what is known of their increments afterwards."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsim.driver.engine import Engine
from jaxsim.driver.lanes import Arrivals, Lanes, at_marks, at_rest, clock
from jaxsim.driver.steps import Model, State, rounded, size
from jaxsim.rules.base import Rule

APART = 17  # steps from one increment that is kept to the next: a prime, so that no cycle of 2 to 16 looks like rest
FIRST = 20.0  # steps of a first leap: no multiple of that


def single_steps(
    model: Model,
    rule: Rule,
    lanes: Lanes,
    marks: Float[Array, " R"],
    begun: Bool[Array, " lanes"],
    most: int,
    by: Engine,
) -> tuple[Lanes, State]:
    """Some lanes up to so many single steps further, none beyond its next mark; and the increments of the first."""
    start, gap, _ = clock(lanes, marks)
    counts = jnp.where(begun, jnp.clip(gap - lanes.elapsed, 0.0, float(most)), 0.0)
    state, increments = by.some(model, rule, lanes.state, start + lanes.elapsed, counts.astype(jnp.int32))
    past = None if lanes.past is None else lanes.past.and_then(increments, counts)
    # Beyond 2^53 one step more is the same number of them.
    after = lanes.but(state=state, past=past, elapsed=lanes.elapsed + counts, stepped=lanes.stepped + counts)
    return after, increments


def until_known(
    model: Model, rule: Rule, lanes: Lanes, marks: Float[Array, " R"], by: Engine
) -> tuple[Lanes, Arrivals]:
    """Fast lanes so far that enough increments are known to leap by, which is tried next; none beyond its next mark."""
    start, _, going = clock(lanes, marks)
    begun = going & lanes.fast
    for _ in range(len(lanes.past.ago)):
        lanes, increments = single_steps(model, rule, lanes, marks, begun, APART, by)
    here, made, speed = rounded(lanes.state), start + lanes.elapsed, size(increments.params)
    negligible = jnp.finfo(speed.dtype).eps * jnp.maximum(size(here.params), 1.0)
    still = at_rest(model, here, made) | (speed * (marks[-1] - made) <= negligible) | ~jnp.isfinite(speed)
    slow = begun & jnp.isfinite(lanes.past.ago).all(0)
    lanes = lanes.but(
        stretch=jnp.where(slow, jnp.log1p(FIRST / made), lanes.stretch),
        fast=lanes.fast & ~slow,
        ended=lanes.ended | (begun & still),
    )
    return at_marks(lanes, begun, marks)

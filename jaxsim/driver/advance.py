"""One run of any model under any rule. Nothing here knows which model or which rule it drives."""

from typing import Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxsim._tree import pytree
from jaxsim.model.gradient import Gradient, Tree
from jaxsim.rules.base import Rule, Step


class Model(Protocol):
    """What the driver asks of a model. Parameters are a tuple of blocks; the last axis runs over lanes."""

    def enter(self, start: Float[Array, "p lanes"]) -> tuple[Tree, ...]:
        """Parameters at step 0."""
        ...

    def gradient(self, params: tuple[Tree, ...]) -> Gradient:
        """The scaled gradient."""
        ...

    def observe(self, params: tuple[Tree, ...]) -> dict[str, Array]:
        """What is recorded."""
        ...

    def logits(self, params: tuple[Tree, ...]) -> Float[Array, "n T lanes"]:
        """The attention logits."""
        ...


@pytree
class State:
    """What a run must carry: parameters, their rounding residual (None where not needed), the rule's memory."""

    params: tuple[Tree, ...]
    residual: tuple[Tree, ...] | None
    memory: Tree


def begin(model: Model, rule: Rule, start: Float[Array, "p lanes"]) -> State:
    """The state at step 0. Below double precision the parameters are accumulated with compensation."""
    params = model.enter(start)
    compensate = jnp.finfo(start.dtype).bits < 64
    residual = jax.tree.map(jnp.zeros_like, params) if compensate else None
    return State(params, residual, rule.init(params))


def advance(model: Model, rule: Rule, state: State, step: Step) -> State:
    """One update."""
    increments, memory = rule.update(model.gradient(state.params), state.memory, step)
    if state.residual is None:
        return State(jax.tree.map(jnp.add, state.params, increments), None, memory)
    leaves, shape = jax.tree.flatten(state.params)
    pairs = map(_add, leaves, jax.tree.leaves(state.residual), jax.tree.leaves(increments))
    sums, errors = zip(*pairs, strict=True)
    return State(jax.tree.unflatten(shape, sums), jax.tree.unflatten(shape, errors), memory)


def _add(x: Array, residual: Array, increment: Array) -> tuple[Array, Array]:
    """X + (increment + residual) and the rounding error of the sum, exactly (Knuth's two-sum)."""
    y = increment + residual
    total = x + y
    back = total - x
    return total, (x - (total - back)) + (y - back)


def trajectory(
    model: Model, rule: Rule, start: Float[Array, "p lanes"], gaps: Int[Array, " R"], logits: bool
) -> tuple[dict[str, Array], Array, dict[str, Array]]:
    """Records after each gap of steps, (R, …, lanes); the final logits; and the rule's report.

    `gaps` are traced: another schedule with as many records, or another horizon, does not recompile.
    """

    def segment(carry, gap):
        state, done = carry
        state = lax.fori_loop(0, gap, lambda j, s: advance(model, rule, s, done + j), state)
        record = model.observe(state.params)
        if logits:
            record["logits"] = model.logits(state.params)
        return (state, done + gap), record

    carry = begin(model, rule, start), jnp.zeros((), gaps.dtype)
    (state, _), records = lax.scan(segment, carry, gaps)
    return records, model.logits(state.params), rule.report(state.memory)

"""One run of any model under any rule, step by step, with what is recorded of it on the way."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxsim._tree import pytree
from jaxsim.driver.engine import XLA, Engine
from jaxsim.driver.steps import Model, State, begin, next_move
from jaxsim.model.gradient import Tree
from jaxsim.rules.base import Rule


@pytree
class End:
    """Where a run has come to: its state, and what rounding has left out of the parameters, in compensated runs."""

    state: State
    residual: tuple[Tree, ...] | None


def trajectory(
    model: Model, rule: Rule, start: Float[Array, "p lanes"], gaps: Int[Array, " R"], engine: Engine = XLA
) -> tuple[Any, Array, dict[str, Array], End]:
    """Records after each gap of steps, (R, …, lanes); the final logits; the rule's report; and all of the end.

    `gaps` are traced: another schedule with as many records, or another horizon, does not recompile.
    """
    compensate = jnp.finfo(start.dtype).bits < 64

    def segment(carry, gap):
        state, residual, done = carry
        state, residual = engine.many(model, rule, state, residual, done, gap)
        return (state, residual, done + gap), model.observe(state.params)

    state = begin(model, rule, start)
    residual = jax.tree.map(jnp.zeros_like, state.params) if compensate else None
    (state, residual, done), records = lax.scan(segment, (state, residual, jnp.zeros((), gaps.dtype)), gaps)
    report = rule.report(state.memory)
    if any(rule.weight_decay(k) is not None for k in range(len(state.params))):  # lanes may come to rest
        report = report | {"next_move": next_move(model, rule, state, done)}
    return records, model.logits(state.params), report, End(state, residual)

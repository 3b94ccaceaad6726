"""One run of any model under any rule. Nothing here knows which model or which rule it drives."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxsim._tree import pytree
from jaxsim.model.gradient import Gradient, Tree
from jaxsim.model.sums import add_exactly
from jaxsim.rules.base import Rule, Step

BURST = 8  # steps between exact additions in compensated runs


class Model(Protocol):
    """What the driver asks of a model. Parameters are a tuple of blocks; the last axis runs over lanes."""

    def enter(self, start: Float[Array, "p lanes"]) -> tuple[Tree, ...]:
        """Parameters at step 0."""
        ...

    def gradient(self, params: tuple[Tree, ...], step: Step | None = None) -> Gradient:
        """The scaled gradient of this step, which for most models is that of every step."""
        ...

    def observe(self, params: tuple[Tree, ...]) -> Any:
        """What is recorded: a pytree, of models of attention a `jaxsim.model.records.Records`."""
        ...

    def logits(self, params: tuple[Tree, ...]) -> Float[Array, "n T lanes"]:
        """The attention logits."""
        ...


@pytree
class State:
    """What a run carries: parameters, and the rule's memory."""

    params: tuple[Tree, ...]
    memory: Tree


class Engine(Protocol):
    """What makes many steps in one call, in place of `plain` and `compensated`, for rules without schedules."""

    def __call__(
        self, model: Any, rule: Rule, state: State, residual: tuple[Tree, ...] | None, count: Int[Array, ""]
    ) -> tuple[State, tuple[Tree, ...] | None]:
        """The state after `count` steps, and what rounding has left out of the parameters."""
        ...


def begin(model: Model, rule: Rule, start: Float[Array, "p lanes"]) -> State:
    """The state at step 0."""
    params = model.enter(start)
    return State(params, rule.init(params))


def advance(model: Model, rule: Rule, state: State, step: Step) -> tuple[State, tuple[Tree, ...]]:
    """One update, and its increments."""
    increments, memory = rule.update(model.gradient(state.params, step), state.memory, step)
    return State(jax.tree.map(jnp.add, state.params, increments), memory), increments


def plain(model: Model, rule: Rule, state: State, first: Step, count: Step) -> State:
    """`count` updates in the precision of the parameters."""
    return lax.fori_loop(jnp.zeros_like(count), count, lambda j, s: advance(model, rule, s, first + j)[0], state)


def compensated(
    model: Model, rule: Rule, state: State, residual: tuple[Tree, ...], first: Step, count: Step
) -> tuple[State, tuple[Tree, ...]]:
    """`count` updates whose sum does not drift, for parameters below double precision.

    Increments are summed in bursts of a few steps and each sum is added to the parameters exactly, the rounding
    error going to the residual. Within a burst the parameters are off by a few roundings, which dynamics that
    contract do not remember; the sum forgets nothing.
    """

    def burst(k, carry):
        state, residual = carry
        begun, todo = first + k * BURST, jnp.minimum(jnp.asarray(BURST, count.dtype), count - k * BURST)

        def step(j, inner):
            state, moved = inner
            state, increments = advance(model, rule, state, begun + j)
            return state, jax.tree.map(jnp.add, moved, increments)

        after, moved = lax.fori_loop(
            jnp.zeros_like(todo), todo, step, (state, jax.tree.map(jnp.zeros_like, state.params))
        )
        leaves, shape = jax.tree.flatten(state.params)
        pairs = map(add_exactly, leaves, jax.tree.leaves(residual), jax.tree.leaves(moved))
        sums, errors = zip(*pairs, strict=True)
        return State(jax.tree.unflatten(shape, sums), after.memory), jax.tree.unflatten(shape, errors)

    return lax.fori_loop(jnp.zeros_like(count), (count + BURST - 1) // BURST, burst, (state, residual))


@pytree
class End:
    """Where a run has come to: its state, and what rounding has left out of the parameters, in compensated runs."""

    state: State
    residual: tuple[Tree, ...] | None


def trajectory(
    model: Model, rule: Rule, start: Float[Array, "p lanes"], gaps: Int[Array, " R"], engine: Engine | None = None
) -> tuple[Any, Array, dict[str, Array], End]:
    """Records after each gap of steps, (R, …, lanes); the final logits; the rule's report; and all of the end.

    `gaps` are traced: another schedule with as many records, or another horizon, does not recompile.
    """
    compensate = jnp.finfo(start.dtype).bits < 64

    def segment(carry, gap):
        state, residual, done = carry
        if engine is not None:
            state, residual = engine(model, rule, state, residual, gap)
        elif compensate:
            state, residual = compensated(model, rule, state, residual, done, gap)
        else:
            state = plain(model, rule, state, done, gap)
        return (state, residual, done + gap), model.observe(state.params)

    state = begin(model, rule, start)
    residual = jax.tree.map(jnp.zeros_like, state.params) if compensate else None
    (state, residual, _), records = lax.scan(segment, (state, residual, jnp.zeros((), gaps.dtype)), gaps)
    return records, model.logits(state.params), rule.report(state.memory), End(state, residual)

"""The map: one update of any model under any rule, and many of them. Nothing here knows which model or which rule."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxsim._tree import pytree
from jaxsim.model import sums
from jaxsim.model.gradient import Gradient, Tree
from jaxsim.model.sums import add_exactly, plus
from jaxsim.rules.base import Rule, Step, WeightDecay

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


def begin(model: Model, rule: Rule, start: Float[Array, "p lanes"]) -> State:
    """The state at step 0."""
    params = model.enter(start)
    return State(params, rule.init(params))


def advance(model: Model, rule: Rule, state: State, step: Step) -> tuple[State, tuple[Tree, ...]]:
    """One update, and its increments."""
    gradient = model.gradient(state.params, step)
    displacement = rule.displacement(gradient, state.memory, step)
    if displacement is not None:
        gradient = model.gradient(jax.tree.map(jnp.add, state.params, displacement), step)
    increments, memory = rule.update(gradient, state.memory, step)
    blocks = enumerate(zip(increments, state.params, strict=True))
    increments = tuple(_decayed(rule.weight_decay(k), *block, step) for k, block in blocks)
    return State(jax.tree.map(jnp.add, state.params, increments), memory), increments


def _decayed(decay: WeightDecay | None, increment: Tree, block: Tree, step: Step) -> Tree:
    """The increment of a block, less what weight decay takes away of it."""
    if decay is None:
        return increment
    return jax.tree.map(lambda move, x: move - decay(step, x.dtype) * x, increment, block)


def next_move(model: Model, rule: Rule, state: State, step: Step) -> Float[Array, " lanes"]:
    """The largest entry of the next increment over that of the parameters, whichever part moves most."""
    moved = jax.tree.leaves(advance(model, rule, state, step)[1])
    parts = [(size(move), size(x)) for move, x in zip(moved, jax.tree.leaves(state.params), strict=True)]
    return jnp.stack([jnp.where(move == 0, 0.0, move / x) for move, x in parts]).max(0)


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


def where(chosen: Bool[Array, "*lanes"], x: Tree, y: Tree) -> Tree:
    """The lanes of x that are chosen, and those of y that are not; or all of either."""
    return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), x, y)


def rounded(state: State) -> State:
    """The state in plain numbers, as models and rules know it."""
    return State(sums.rounded(state.params), state.memory)


def size(x: Tree) -> Float[Array, " lanes"]:
    """The largest entry of every lane."""
    return jnp.stack([jnp.abs(leaf).reshape(-1, leaf.shape[-1]).max(0) for leaf in jax.tree.leaves(x)]).max(0)


def change(model: Model, rule: Rule, state: State, step: Step) -> State:
    """The increments of one update, of parameters and of what the rule remembers."""
    after, moved = advance(model, rule, state, step)
    return State(moved, sums.minus(after.memory, state.memory))


def some(
    model: Model, rule: Rule, state: State, first: Float[Array, " lanes"], counts: Int[Array, " lanes"]
) -> tuple[State, State]:
    """As many updates as are asked for of every lane, from a step of its own, and the increments of the first.

    Those are known of lanes that make none, too. Parameters are sums, as `Exact`.
    """

    def one(j, carry):
        state, increments = carry
        here = rounded(state)
        after, moved = advance(model, rule, here, first + j.astype(first.dtype))
        by = State(moved, sums.minus(after.memory, here.memory))
        state = where(j < counts, State(plus(state.params, moved), after.memory), state)
        return state, where(j == 0, by, increments)

    nothing = jax.tree.map(jnp.zeros_like, State(rounded(state).params, sums.minus(state.memory, state.memory)))
    return lax.fori_loop(0, jnp.maximum(counts.max(), 1), one, (state, nothing))

"""From the last step that is made for all lanes to the horizon: slow lanes leap and fast ones are stepped, in turn."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxsim.driver.engine import XLA, Engine
from jaxsim.driver.lanes import Arrivals, Lanes, at_marks, at_rest, begin, clock, nothing_known
from jaxsim.driver.single import until_known
from jaxsim.driver.steps import Model, rounded
from jaxsim.driver.stride import pace, stride
from jaxsim.driver.trajectory import End
from jaxsim.model.gradient import Tree
from jaxsim.rules.base import Rule


def to_the_end(
    model: Model, rule: Rule, lanes: Lanes, marks: Float[Array, " R"], width: int, by: Engine, apart: bool = False
) -> tuple[Lanes, tuple[Tree, ...]]:
    """All lanes to the last mark, slow and fast ones in turn, in blocks of their kind; parameters at all but the first.

    Args:
        model: the model.
        rule: the rule; both together are the map.
        lanes: where they are.
        marks: the step that they have come to, and those to be recorded.
        width: lanes of a block.
        by: what makes the steps.
        apart: whether every lane has a rule of its own.
    """
    count, records = lanes.elapsed.shape[-1], len(marks) - 1
    kept = jax.tree.map(lambda x: jnp.zeros((records, *x.shape), x.dtype), rounded(lanes.state).params)

    def keep(kept: Tree, arrivals: Arrivals, index: Int[Array, " lanes"]) -> Tree:
        place = jnp.broadcast_to(index, arrivals.mark.shape)
        lanes_second = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 1), arrivals.params)  # (slots, lanes, …)
        return jax.tree.map(lambda all, x: all.at[arrivals.mark, ..., place].set(x, mode="drop"), kept, lanes_second)

    def of_kind(carry: tuple[Lanes, Tree], fast: bool, work: Any) -> tuple[Lanes, Tree]:
        lanes, kept = carry
        if width == count:  # one block, whose lanes may be of several problems: they stay where they are
            lanes, arrivals = work(model, rule, lanes, marks, by)
            return lanes, keep(kept, arrivals, jnp.arange(count, dtype=jnp.int32))
        chosen = clock(lanes, marks)[2] & (lanes.fast == fast)
        order = jnp.argsort(~chosen, stable=True).astype(jnp.int32)
        order = jnp.where(jnp.arange(count) < chosen.sum(), order, count)
        index = jnp.pad(order, (0, -count % width), constant_values=count)

        def block(b, carry):
            lanes, kept = carry
            here = lax.dynamic_slice_in_dim(index, b * width, width)
            part = jax.tree.map(lambda x: x.at[..., here].get(mode="clip"), lanes)
            part = part.but(ended=part.ended | (here == count))  # the last block may not be full
            own = jax.tree.map(lambda x: x.at[here].get(mode="clip"), rule) if apart else rule
            part, arrivals = work(model, own, part, marks, by)
            lanes = jax.tree.map(lambda x, p: x.at[..., here].set(p, mode="drop"), lanes, part)
            return lanes, keep(kept, arrivals, here)

        return lax.fori_loop(0, (chosen.sum() + width - 1) // width, block, (lanes, kept))

    def round(carry):
        if lanes.pace is not None:
            return of_kind(carry, True, stride)
        return of_kind(of_kind(carry, False, leaps), True, until_known)

    lanes, kept = lax.while_loop(lambda carry: jnp.any(clock(carry[0], marks)[2]), round, (lanes, kept))
    last = rounded(lanes.state).params
    missed = jnp.arange(records, dtype=jnp.int32)[:, None] >= lanes.mark  # of lanes that ended before the last mark
    fill = jax.tree.map(lambda all, x: jnp.where(jnp.expand_dims(missed, range(1, x.ndim)), x, all), kept, last)
    return lanes, fill


def leaps(model: Model, rule: Rule, lanes: Lanes, marks: Float[Array, " R"], by: Engine) -> tuple[Lanes, Arrivals]:
    """Some leaps of slow lanes, none beyond its next mark; those at a minimum have come to their end."""
    start, _, going = clock(lanes, marks)
    begun = going & ~lanes.fast
    rest = begun & at_rest(model, rounded(lanes.state), start + lanes.elapsed)
    lanes = lanes.but(ended=lanes.ended | rest)
    return at_marks(by.leap(model, rule, lanes, marks), begun, marks)


def leaping(
    model: Model,
    rule: Rule,
    end: End,
    marks: Float[Array, " R"],
    width: int | None = None,
    by: Engine = XLA,
    apart: bool = False,
) -> tuple[Any, Array, dict[str, Array]]:
    """What `trajectory` gives, from where it ended at the first mark: records at the others, and a longer report.

    Args:
        model: the model.
        rule: the rule.
        end: where the lanes are.
        marks: the step that they have come to, and those to be recorded.
        width: lanes of a block; all of them where it is not given.
        by: what makes the steps.
        apart: whether every lane has a rule of its own.
    """
    residual = jax.tree.map(jnp.zeros_like, end.state.params) if end.residual is None else end.residual
    lanes = begin(end.state, residual, marks[0])
    known = dict(pace=pace(lanes)) if rule.keeps_pace else dict(past=nothing_known(lanes.state, lanes.elapsed))
    lanes = lanes.but(**known)
    block = width or lanes.elapsed.shape[-1]
    lanes, kept = to_the_end(model, rule, lanes, marks, block, by, apart)

    def observed(params):
        blocks = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(*x.shape[:-1], -1, block), -2, 0), params)
        return jax.tree.map(
            lambda x: jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1), lax.map(model.observe, blocks)
        )

    state = rounded(lanes.state)
    return lax.map(observed, kept), model.logits(state.params), rule.report(state.memory) | lanes.report()

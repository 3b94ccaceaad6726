r"""The flow of which the iterates of a map are samples, read off a few steps of the map itself.

    x_{k+1} = Φ(x_k),     dx/dk = log(1+Δ) x = Δx - Δ²x/2 + Δ³x/3 - …,     Δ the forward difference

(the modified equation of backward error analysis: Hairer, Lubich, Wanner, Geometric Numerical Integration, ch. IX). J
steps from the present state give the first J terms, as a weighted sum of J increments; where increments shrink like
1/k, the term of order J is O(k^{1-J}) of the first. The last term kept is the measure of what is left out.
"""

import functools
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxsim.driver.steps import Model, State, advance, size
from jaxsim.model.gradient import Tree
from jaxsim.model.sums import minus
from jaxsim.rules.base import Rule

LOWEST, HIGHEST = 2, 6  # orders J


def _weights() -> tuple[np.ndarray, np.ndarray]:
    """Weights of increments 0 … HIGHEST - 1 in the sum of J terms and in the last of them, (HIGHEST + 1, HIGHEST)."""
    sums, last = np.zeros((HIGHEST + 1, HIGHEST)), np.zeros((HIGHEST + 1, HIGHEST))
    for order in range(1, HIGHEST + 1):
        for j in range(order):
            sums[order, j] = sum((-1) ** j * comb(i - 1, j) / i for i in range(j + 1, order + 1))
            last[order, j] = (-1) ** (order - 1 - j) * comb(order - 1, j) / order
    return sums, last


SUMS, LAST = _weights()


def generator(
    model: Model,
    rule: Rule,
    state: State,
    step: Float[Array, " lanes"],
    orders: tuple[Int[Array, " lanes"], ...],
    doubt: bool = True,
) -> list[tuple[State, Float[Array, " lanes"]]]:
    """dx/dk to every one of some orders, and how large the last term of the series is, of the parameters.

    Args:
        model: the model.
        rule: the rule; both together are the map.
        state: where it is.
        step: how many steps it has made.
        orders: J of every lane, from LOWEST to HIGHEST, one choice after another.
        doubt: whether the size of the last term is wanted; else it is 0.
    """
    sums, last = (jnp.asarray(table, step.dtype) for table in (SUMS, LAST))

    def one(j, carry):
        here, found = carry
        after, moved = advance(model, rule, here, step + j.astype(step.dtype))
        change = State(moved, minus(after.memory, here.memory))

        def added(sum: Tree, weights: Array, terms: Tree, order: Array) -> Tree:
            return jax.tree.map(lambda s, c: jnp.where(j < order, s + weights[order, j] * c, s), sum, terms)

        found = [
            (added(total, sums, change, order), added(term, last, moved, order) if doubt else None)
            for (total, term), order in zip(found, orders, strict=True)
        ]
        return after, found

    nothing = jax.tree.map(jnp.zeros_like, State(state.params, minus(state.memory, state.memory)))
    none = [(nothing, nothing.params if doubt else None) for _ in orders]
    most = functools.reduce(jnp.maximum, orders).max()
    found = lax.fori_loop(0, most, one, (state, none))[1]
    return [(slope, size(term) if doubt else jnp.zeros_like(step)) for slope, term in found]

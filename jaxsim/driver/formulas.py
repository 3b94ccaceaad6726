r"""The formulas of orders 8, 5 and 3 of Dormand and Prince, for lanes in logarithmic times of their own.

DOP853: Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I; the coefficients are SciPy's.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxsim.driver.steps import State, rounded, size
from jaxsim.model.gradient import Tree
from jaxsim.model.sums import plus

STAGES = 12


@functools.cache
def tableau() -> Float[np.ndarray, "rows stages"]:
    """Rows: A of each stage, B, C, and the weights of the errors of orders 3 and 5."""
    from scipy.integrate import DOP853  # slow to import, and only leaps need it

    return np.vstack([DOP853.A[:STAGES, :STAGES], DOP853.B, DOP853.C[:STAGES], DOP853.E3[:-1], DOP853.E5[:-1]])


def along(
    flow: Callable[[State, Float[Array, " lanes"]], State],
    state: State,
    slope: State,
    scale: Float[Array, " lanes"],
    sigma: Float[Array, " lanes"],
    made: Float[Array, " lanes"],
) -> tuple[State, Float[Array, " lanes"], Float[Array, " lanes"]]:
    """The state after k - made = s (e^σ - 1) steps of a flow, and the sizes of the two errors.

    Args:
        flow: dx/dk, of a state in plain numbers and the step it is at.
        state: where the lanes are, parameters as sums that forget nothing.
        slope: dx/dk there.
        scale: s.
        sigma: σ.
        made: the step that they have come to.
    """
    rows = jnp.asarray(tableau(), sigma.dtype)
    A, (B, C, E3, E5) = rows[:STAGES], rows[STAGES:]

    def speed(i):
        return sigma * scale * jnp.exp(C[i] * sigma)

    def combined(weights: Array, stages: Tree) -> Tree:
        return jax.tree.map(lambda s: functools.reduce(jnp.add, [weights[j] * s[j] for j in range(STAGES)]), stages)

    def stage(i, stages):
        here = rounded(plus(state, combined(A[i], stages)))
        return jax.tree.map(
            lambda s, f: s.at[i].set(f * speed(i)), stages, flow(here, made + scale * jnp.expm1(C[i] * sigma))
        )

    first = jax.tree.map(lambda f: jnp.zeros((STAGES, *f.shape), f.dtype).at[0].set(f * speed(0)), slope)
    stages = lax.fori_loop(1, STAGES, stage, first)
    five, three = (size(combined(E, stages.params)) for E in (E5, E3))
    return plus(state, combined(B, stages)), five, three

r"""Sums of increments most of which are never computed: slow ones lie on a polynomial through a few.

With g(κ) the increment of the map at step κ and k the step that a lane has come to,

    x_{k+N} - x_k = Σ_{j<N} g(k+j) = ∫_k^{k+N} g dκ - [g]/2 + [dg/dκ]/12 - …

(Euler and Maclaurin: DLMF, 2.10.1), where [·] is the difference between both ends. The first term left out,
-[d³g/dκ³]/720, is some 1/(720 T⁴) of the sum where increments change over T steps: less than the error that a leap is
allowed, which does not count it.

In θ = log(1 + (κ - k)/s) increments that die out like 1/κ are smoother than in κ; s is SPREAD times the time over which
they are known, and at most k. So the polynomial is one in θ, of degree m, through m known values of F = s e^θ g and the
one at k+N. That is known after x_{k+N} is foreseen without it: predictor and corrector of the methods of Adams, for a
sum in place of an integral and steps of any length (Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I,
III.1 and III.5).
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SPREAD = 4.0  # s, as a multiple of the time over which increments are known


def gauss(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss's points and weights on [0, 1], exact to that degree."""
    points, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    return (points + 1) / 2, weights / 2


def _sum(x: Array) -> Array:
    """Over the first axis, in the same order for any number of lanes."""
    return functools.reduce(jnp.add, x)


def _product(x: Array) -> Array:
    """Over the second axis, likewise."""
    return functools.reduce(jnp.multiply, jnp.moveaxis(x, 1, 0))


class Weights(NamedTuple):
    """What a leap takes from the increments.

    Attributes:
        sum: weights of the known increments in the sum that they foresee.
        next: their weights in the increment at k+N that they foresee.
        surprise: weight in the sum of what the increment at k+N is more than that.
        doubt: weight of that surprise in the change of the integral when the oldest increment is forgotten.
    """

    sum: Float[Array, "m lanes"]
    next: Float[Array, "m lanes"]
    surprise: Float[Array, " lanes"]
    doubt: Float[Array, " lanes"]


def weights(ago: Float[Array, "known lanes"], made: Float[Array, " lanes"], length: Float[Array, " lanes"]) -> Weights:
    """The weights of a leap of N steps, of the increment at k first and then of older ones: m are one more than known.

    Args:
        ago: how many steps before k the others are known, above 0 and all different: of equal ones nothing is finite.
        made: k.
        length: N.
    """
    oldest = ago.max(0)
    scale = jnp.minimum(SPREAD * oldest, made)
    from_here = jnp.concatenate([length[None], jnp.zeros_like(length)[None], -ago])
    S, t = scale + from_here, jnp.log1p(from_here / scale)  # s e^θ and θ, at k+N, at k and before
    itself = jnp.eye(len(t), dtype=t.dtype)[:, :, None]
    apart = t[:, None] - t[None] + itself
    w = 1 / _product(apart)  # of the divided difference: Σ_i w_i F_i = 0 where F is a polynomial of degree m - 1

    points, shares = (jnp.asarray(x, t.dtype) for x in gauss(len(t) - 1))
    distance = points[:, None, None] * t[0] - t  # (points, nodes, lanes)
    lagrange = w * _product(distance)[:, None] / distance
    integral = t[0] * _sum(shares[:, None, None] * lagrange)

    def at(a: int) -> tuple[Array, Array]:
        """The increment and dg/dκ at a node."""
        one = itself[:, a]
        slope = w / w[a] / apart[a]
        slope = jnp.where(one == 1, _sum((1 - one) / apart[a]), slope)
        return one / S[a], (slope - one) / S[a] ** 2

    (g_end, turn_end), (g_here, turn_here) = at(0), at(1)
    all = S * (integral - (g_end - g_here) / 2 + (turn_end - turn_here) / 12)
    next = -(w * S)[1:] / (w * S)[0]
    doubt = _sum(jnp.where(ago == oldest, (integral / w)[2:], 0.0)) * (w * S)[0]
    return Weights(all[1:] + all[0] * next, next, all[0], doubt)

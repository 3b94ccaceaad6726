"""What coordinates are: the float64 host side, the device side, and what enters the one from the other."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxsim._fold import total

Params = dict[str, Array]


class Entry(Protocol):
    """From random ξ to their part inside the span and start vectors; on the device."""

    def __call__(self, xi: Float[Array, "lanes size"]) -> tuple[Array, Array]:
        """(ξ inside, start vectors)."""
        ...


class Space(Protocol):
    """The device side of a frame. The last axis of every array runs over lanes."""

    def enter(self, start: Float[Array, "p lanes"]) -> Params:
        """Parameters at step 0 from the frame's start vector."""
        ...

    def logits(self, params: Params) -> Float[Array, "n T lanes"]:
        """a_it = x_itᵀ W z_i."""
        ...

    def pull(self, g: Float[Array, "n T lanes"]) -> tuple[Params, Float[Array, " lanes"], Float[Array, " lanes"]]:
        """The direction Σ g_it x_it z_iᵀ as an increment of the parameters, its norm, and √Σ ‖g_it x_it z_iᵀ‖².

        The last is the size of the terms: a norm far below it is what rounding left of terms that cancel.
        """
        ...

    @staticmethod
    def inner(a: Params, b: Params) -> Float[Array, " lanes"]:
        """⟨A, B⟩ of two increments."""
        ...

    def position(self, params: Params) -> Float[Array, "p lanes"]:
        """The vector from which the frame recovers ξ."""
        ...


class Frame(Protocol):
    """The float64 host side: how W and the Euclidean coordinates ξ of a space translate."""

    kind: str  # "dual", "primal" or "full"
    size: int  # length of ξ
    rank: int  # dimension of the span that ξ describes
    ambient: int  # d², the dimension of the whole of W

    def space(self, dtype: Any) -> Space:
        """The device side in the run's dtype, its leaves still on the host."""
        ...

    def project(self, W: Float[np.ndarray, "lanes d e"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ξ, the start vector and ‖W outside‖² of given matrices, each with lanes first."""
        ...

    def begin(self, xi: Float[np.ndarray, "lanes size"]) -> np.ndarray:
        """Start vectors of ξ."""
        ...

    def entry(self, dtype: Any) -> Entry:
        """From random ξ to their part inside the span and start vectors; on the device."""
        ...

    def locate(self, start: np.ndarray, position: np.ndarray) -> np.ndarray:
        """ξ (…, size) from ξ_0 (…, size) and a position (…, p)."""
        ...

    def combine(self, coeffs: Float[np.ndarray, "k n T"]) -> Float[np.ndarray, "k size"]:
        """ξ of the matrices Σ_it μ_it x_it z_iᵀ."""
        ...

    def coefficients(self, position: np.ndarray) -> Float[np.ndarray, "... n T"] | None:
        """c, where a position holds it."""
        ...

    def logits(self, xi: Float[np.ndarray, "... size"]) -> Float[np.ndarray, "... n T"]:
        """a_it of the part of W inside the span, which is all that logits see."""
        ...

    def lift(self, xi: Float[np.ndarray, " size"]) -> Float[np.ndarray, "d e"]:
        """The matrix that ξ describes."""
        ...

    @property
    def span(self) -> Float[np.ndarray, "rank size"]:
        """An orthonormal basis of the ξ that occur."""
        ...


def product(
    matrix: Float[Array, "*groups p q"], x: Float[Array, "_ lanes"], turned: bool = False
) -> Float[Array, "_ lanes"]:
    """A shared matrix (or its transpose) times one column per lane, at full precision on every device.

    Or one matrix per group of lanes, multiplied with lanes first: few lanes make no long columns.
    """
    if matrix.ndim == 2:
        return lax.dot(matrix.T if turned else matrix, x, precision=lax.Precision.HIGHEST)
    rows = x.reshape(len(x), len(matrix), -1).transpose(1, 2, 0)
    along = ((2,), (1 if turned else 2,))
    products = lax.dot_general(rows, matrix, (along, ((0,), (0,))), precision=lax.Precision.HIGHEST)
    return products.transpose(2, 0, 1).reshape(products.shape[2], -1)


def terms(g: Float[Array, "n T lanes"], lengths: Float[Array, "n T #lanes"], size: Array) -> Float[Array, " lanes"]:
    """√Σ ‖g_it x_it z_iᵀ‖²."""
    scaled = g * (lengths / size)
    return size * jnp.sqrt(total(scaled * scaled, 0, 1)[0, 0])


def host(dtype: Any, *arrays: np.ndarray) -> list[Any]:
    """The arrays in the run's dtype, not yet on a device."""
    return [np.asarray(array, dtype) for array in arrays]


def as_device(tree: Any, dtype: Any) -> Any:
    """Every leaf as a device array of the run's dtype."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)

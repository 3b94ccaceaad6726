"""The device side of reduced coordinates: what a run carries, and its products with the data."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxsim._tree import pytree, static
from jaxsim.model.fold import total

Params = dict[str, Array]


def _product(
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


def _terms(g: Float[Array, "n T lanes"], lengths: Float[Array, "n T #lanes"], size: Array) -> Float[Array, " lanes"]:
    """√Σ ‖g_it x_it z_iᵀ‖²."""
    scaled = g * (lengths / size)
    return size * jnp.sqrt(total(scaled * scaled, 0, 1)[0, 0])


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


@pytree
class Dual:
    """Centred logits and coefficients, with the Gram matrix of the centred rows, and the root of its largest entry.

    One of each for all lanes, or one for each of several equal groups of lanes that belong to different problems.
    """

    gram: Float[Array, "*groups N N"]
    size: Float[Array, "*lanes"]
    lengths: Float[Array, "n T #lanes"]  # of the centred rows
    shape: tuple[int, int] = static()

    def enter(self, start):
        """`start` holds the logits."""
        logits = start.reshape(*self.shape, -1)
        return {"logits": logits, "coeffs": jnp.zeros_like(logits)}

    def logits(self, params):
        """Carried, not computed."""
        return params["logits"]

    def pull(self, g):
        """(K g, g), and the norm √(gᵀ K g), in units in which the squares of small tokens do not underflow."""
        # Turned: the matrices of groups are symmetric, and this way round their products are faster.
        Kg = _product(self.gram, g.reshape(self.gram.shape[-1], -1), turned=self.gram.ndim > 2).reshape(g.shape)
        unit = 1 / self.size
        squared = total(g * (Kg * unit * unit), 0, 1)[0, 0]
        return {"logits": Kg, "coeffs": g}, self.size * jnp.sqrt(squared), _terms(g, self.lengths, self.size)

    @staticmethod
    def inner(a, b):
        """Cᵀ K c'."""
        return total(a["coeffs"] * b["logits"], 0, 1)[0, 0]

    def position(self, params):
        """c, flattened."""
        return params["coeffs"].reshape(self.gram.shape[-1], -1)


@pytree
class Factored:
    """Coordinates on a basis of the centred span, with the centred rows in that basis, and their largest entry.

    As `Dual`, one matrix for all lanes or one for each of several equal groups of lanes.
    """

    factor: Float[Array, "*groups N p"]
    size: Float[Array, "*lanes"]
    lengths: Float[Array, "n T #lanes"]  # of the centred rows
    shape: tuple[int, int] = static()

    def enter(self, start):
        """`start` holds the coordinates."""
        return {"axes": start}

    def logits(self, params):
        """F p."""
        return _product(self.factor, params["axes"]).reshape(*self.shape, -1)

    def pull(self, g):
        """Fᵀ g and its length, in units in which the squares of small tokens do not underflow."""
        flat, unit = g.reshape(self.factor.shape[-2], -1), 1 / self.size
        pulled = _product(self.factor, flat, turned=True)
        norm = self.size * jnp.sqrt(total((pulled * unit) ** 2, 0)[0])
        return {"axes": pulled}, norm, _terms(g, self.lengths, self.size)

    @staticmethod
    def inner(a, b):
        """The product of the coordinates."""
        return total(a["axes"] * b["axes"], 0)[0]

    def position(self, params):
        """The coordinates."""
        return params["axes"]


@pytree
class Primal:
    """The r_x × r_z core of W, with centred tokens and queries in their own bases."""

    tokens: Float[Array, "n T r_x"]
    queries: Float[Array, "n r_z"]
    lengths: Float[Array, "n T 1"]  # of the centred rows

    def enter(self, start):
        """`start` holds the core, flattened."""
        return {"core": start.reshape(self.queries.shape[1], self.tokens.shape[2], -1)}

    def logits(self, params):
        """x̃_itᵀ C z̃_i, queries first: n (r_x r_z + T r_x) multiply-adds."""
        core = params["core"]
        r_z, r_x, lanes = core.shape
        keys = _product(self.queries, core.reshape(r_z, r_x * lanes)).reshape(-1, r_x, lanes)
        return lax.dot_general(self.tokens, keys, (((2,), (1,)), ((0,), (0,))), precision=lax.Precision.HIGHEST)

    def pull(self, g):
        """Σ g_it z̃_i x̃_itᵀ."""
        values = lax.dot_general(self.tokens, g, (((1,), (1,)), ((0,), (0,))), precision=lax.Precision.HIGHEST)
        n, r_x, lanes = values.shape
        core = _product(self.queries.T, values.reshape(n, r_x * lanes)).reshape(-1, r_x, lanes)
        norm = jnp.sqrt(total(core * core, 0, 1)[0, 0])
        return {"core": core}, norm, _terms(g, self.lengths, jnp.ones((), g.dtype))

    @staticmethod
    def inner(a, b):
        """The product of the cores."""
        return total(a["core"] * b["core"], 0, 1)[0, 0]

    def position(self, params):
        """The core, flattened."""
        return params["core"].reshape(-1, params["core"].shape[-1])


@pytree
class DualEntry:
    """Random ξ to their part inside the span and the centred logits at step 0; on the device."""

    root: Float[Array, "N N"]
    projector: Float[Array, "N N"] | None

    def __call__(self, xi: Float[Array, "lanes N"]) -> tuple[Array, Array]:
        """(ξ inside, centred logits)."""
        precision = lax.Precision.HIGHEST
        inside = xi if self.projector is None else jnp.dot(xi, self.projector, precision=precision)
        return inside, jnp.dot(xi, self.root, precision=precision)


@pytree
class PrimalEntry:
    """The core is its own start vector."""

    def __call__(self, xi: Float[Array, "lanes size"]) -> tuple[Array, Array]:
        """(ξ, ξ)."""
        return xi, xi


def host(dtype: Any, *arrays: np.ndarray) -> list[Any]:
    """The arrays in the run's dtype, not yet on a device."""
    return [array.astype(dtype) for array in arrays]


def as_device(tree: Any, dtype: Any) -> Any:
    """Every leaf as a device array of the run's dtype."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)

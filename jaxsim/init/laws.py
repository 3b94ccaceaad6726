"""Random laws of W_0 on the whole d × d space."""

from typing import Any, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsim._check import leaf, positive_number
from jaxsim._tree import pytree


class Law(Protocol):
    """How W_0 is distributed, given the coordinates of a standard Gaussian matrix."""

    def place(self, xi: Float[Array, " size"], rest: Float[Array, ""]) -> tuple[Array, Array]:
        """ξ_0 and ‖W_0 outside‖² from standard Gaussian coordinates and a χ² draw for the rest."""
        ...


@pytree
class Gaussian:
    """W_0 with independent N(0, scale²) entries.

    Args:
        scale: standard deviation of an entry, above 0.

    Example:
        >>> import jaxsim
        >>> jaxsim.init.Gaussian(0.5)
        Gaussian(scale=0.5)
    """

    scale: Any = 1.0

    def __post_init__(self):
        object.__setattr__(self, "scale", leaf("scale", self.scale, positive_number))

    def place(self, xi, rest):
        """See Law."""
        return self.scale * xi, self.scale**2 * rest


@pytree
class Sphere:
    """W_0 uniform on the sphere ‖W_0‖_F = radius of the whole d × d space.

    Args:
        radius: Frobenius norm of every start, above 0.
    """

    radius: Any = 1.0

    def __post_init__(self):
        object.__setattr__(self, "radius", leaf("radius", self.radius, positive_number))

    def place(self, xi, rest):
        """See Law."""
        squared = self.radius**2 / (jnp.sum(xi * xi) + rest)
        return jnp.sqrt(squared) * xi, squared * rest


@pytree
class Zero:
    """W_0 = 0 in every lane."""

    def place(self, xi, rest):
        """See Law."""
        return jnp.zeros_like(xi), jnp.zeros_like(rest)

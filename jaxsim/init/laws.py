"""Random laws of W_0 on the whole d × d space, what a law is, and the registry of all."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsim._check import positive_number
from jaxsim._numbers import numbers
from jaxsim._registry import Registry, called, needs
from jaxsim._tree import pytree


class Law(Protocol):
    """How W_0 is distributed, given the coordinates of a standard Gaussian matrix.

    For those who write one: a law is a class decorated with `jaxsim.rules.pytree` that has `place`, and arguments kept
    in attributes of their names. It has to be invariant under rotations of the space, because the coordinates are those
    of the problem's own basis: what it makes of `xi` may depend on lengths alone. `name` is what commands and studies
    call it, by default the name of the class with dashes. Register the class by `@jaxsim.register`.
    """

    def place(self, xi: Float[Array, " size"], rest: Float[Array, ""]) -> tuple[Array, Array]:
        """ξ_0 and ‖W_0 outside‖² from standard Gaussian coordinates and a χ² draw for the rest."""
        ...


def check_class(law: Any) -> None:
    """Refuse a class whose objects would be no laws, and name what is missing; see `Law`.

    Raises:
        ValueError: where something is missing.
    """
    if not isinstance(law, type):
        raise ValueError(f"law: expected the class of a law, such as jaxsim.init.Gaussian; got {law!r}")
    needs("law", law, "place")
    try:
        leaves = jax.tree.leaves(object.__new__(law))
    except Exception:  # an object without its fields, whose class JAX knows
        return
    if leaves and isinstance(leaves[0], law):
        raise ValueError(f"law: {called(law)} is no pytree; put @jaxsim.rules.pytree before its class")


LAWS = Registry("law", "jaxsim.laws", check_class)


@LAWS.register
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
        object.__setattr__(self, "scale", numbers("scale", self.scale, positive_number))

    def place(self, xi, rest):
        """See Law."""
        return self.scale * xi, self.scale**2 * rest


@LAWS.register
@pytree
class Sphere:
    """W_0 uniform on the sphere ‖W_0‖_F = radius of the whole d × d space.

    Args:
        radius: Frobenius norm of every start, above 0.
    """

    radius: Any = 1.0

    def __post_init__(self):
        object.__setattr__(self, "radius", numbers("radius", self.radius, positive_number))

    def place(self, xi, rest):
        """See Law."""
        squared = self.radius**2 / (jnp.sum(xi * xi) + rest)
        return jnp.sqrt(squared) * xi, squared * rest


@LAWS.register
@pytree
class Zero:
    """W_0 = 0 in every lane."""

    def place(self, xi, rest):
        """See Law."""
        return jnp.zeros_like(xi), jnp.zeros_like(rest)

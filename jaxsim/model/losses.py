"""Losses ℓ of the margin m: slopes with their log scale, and differences of ℓ that do not cancel."""

import math
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsim._tree import pytree

_PAST = 60.0  # where log(1 + e^x) is x in either precision, and e^x still a number
SERIES = 18  # 1/19! is below the rounding of float64
_FAR = 16.0  # beyond this deficit e^δ may overflow in a sum, and the plain difference has all its digits


class Loss(Protocol):
    """ℓ decreasing in the margin. `drop` is (ℓ(s - δ) - ℓ(s)) / δ for δ ≥ 0, with its limit -ℓ'(s) at 0."""

    @property
    def name(self) -> str:
        """The name that saved results carry."""
        ...

    def value(self, m: Float[Array, "..."]) -> Float[Array, "..."]:
        """ℓ(m)."""
        ...

    def slope(self, m: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """(p, q) with ℓ'(m) = -p e^q and p of order one."""
        ...

    def drop(self, s: Float[Array, "..."], delta: Float[Array, "..."]) -> Float[Array, "..."]:
        """(ℓ(s - δ) - ℓ(s)) / δ."""
        ...


@pytree
class Logistic:
    """ℓ(m) = log(1 + e^-m)."""

    name = "logistic"

    def value(self, m):
        """ℓ(m)."""
        return jax.nn.softplus(-m)

    def slope(self, m):
        """1 / (1 + e^m) = e^-max(m, 0) / (1 + e^-|m|)."""
        return 1.0 / (1.0 + jnp.exp(-jnp.abs(m))), -jnp.maximum(m, 0.0)

    def drop(self, s, delta):
        """log(1 + q (e^δ - 1)) / δ with q = σ(-s)."""
        q = jax.nn.sigmoid(-s)
        past = delta - s
        near = q * delta * _growth(jnp.minimum(delta, 1.0))
        far = jnp.exp(jnp.minimum(past, _PAST)) * jax.nn.sigmoid(s) - q
        difference = jnp.log1p(jnp.where(delta < 1.0, near, far))
        return _ratio(jnp.where(past < _PAST, difference, past - jax.nn.softplus(-s)), delta, q)


@pytree
class Exponential:
    """ℓ(m) = e^-m."""

    name = "exponential"

    def value(self, m):
        """ℓ(m)."""
        return jnp.exp(-m)

    def slope(self, m):
        """e^-m."""
        return jnp.ones_like(m), -m

    def drop(self, s, delta):
        """e^-s (e^δ - 1) / δ."""
        near = jnp.exp(-s) * jnp.expm1(jnp.minimum(delta, _FAR))
        far = jnp.exp(delta - s) - jnp.exp(-s)
        return _ratio(jnp.where(delta < _FAR, near, far), delta, jnp.exp(-s))


@pytree
class Linear:
    """ℓ(m) = -m."""

    name = "linear"

    def value(self, m):
        """ℓ(m)."""
        return -m

    def slope(self, m):
        """1."""
        return jnp.ones_like(m), jnp.zeros_like(m)

    def drop(self, s, delta):
        """(δ) / δ = 1."""
        return jnp.ones_like(delta)


LOSSES: dict[str, Loss] = {loss.name: loss for loss in (Logistic(), Exponential(), Linear())}


def named(loss: str) -> Loss:
    """The loss of that name."""
    if loss not in LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)}; got {loss!r}")
    return LOSSES[loss]


def _growth(delta):
    """(e^δ - 1) / δ for 0 ≤ δ ≤ 1, by its series Σ δ^k/(k+1)!; cheaper than expm1, and no quotient."""
    series = jnp.full_like(delta, 1 / math.factorial(SERIES))
    for k in range(SERIES - 1, 0, -1):
        series = series * delta + 1 / math.factorial(k)
    return series


def _ratio(difference, delta, limit):
    """The quotient difference / δ, and its limit where δ is so small that the two agree to rounding."""
    tiny = delta < jnp.finfo(delta.dtype).eps
    return jnp.where(tiny, limit, difference / jnp.where(tiny, 1.0, delta))

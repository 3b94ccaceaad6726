"""Losses ℓ of the margin m: the slope ℓ'(m), and differences of ℓ that do not cancel."""

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsim._tree import pytree

_SERIES_BELOW = 0.25  # where library expm1 and log1p may be rounded worse than a few ulp, series take over
_EXPM1_SERIES = tuple((1.0 / np.cumprod(np.arange(1, 15, dtype=float))).tolist())  # plain floats take any dtype
_ATANH_SERIES = tuple((1.0 / np.arange(1, 24, 2)).tolist())


class Loss(Protocol):
    """ℓ decreasing in the margin. `drop` is (ℓ(s - δ) - ℓ(s)) / δ for δ ≥ 0, with its limit -ℓ'(s) at 0."""

    @property
    def name(self) -> str:
        """The name that saved results carry."""
        ...

    def value(self, m: Float[Array, "..."]) -> Float[Array, "..."]:
        """ℓ(m)."""
        ...

    def slope(self, m: Float[Array, "..."]) -> Float[Array, "..."]:
        """ℓ'(m)."""
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
        """ℓ'(m) = -1 / (1 + e^m)."""
        return -jax.nn.sigmoid(-m)

    def drop(self, s, delta):
        """log(1 + q (e^δ - 1)) / δ with q = σ(-s)."""
        small = delta < 1.0
        near = jnp.where(small, delta, 0.0)
        q = jax.nn.sigmoid(-s)
        slope = q * _expm1_ratio(near)
        far = jnp.where(small, 1.0, delta)
        return jnp.where(
            small, slope * _log1p_ratio(near * slope), (jax.nn.softplus(far - s) - jax.nn.softplus(-s)) / far
        )


@pytree
class Exponential:
    """ℓ(m) = e^-m."""

    name = "exponential"

    def value(self, m):
        """ℓ(m)."""
        return jnp.exp(-m)

    def slope(self, m):
        """ℓ'(m) = -e^-m."""
        return -jnp.exp(-m)

    def drop(self, s, delta):
        """e^-s (e^δ - 1) / δ."""
        small = delta < 1.0
        far = jnp.where(small, 1.0, delta)
        near = jnp.where(small, delta, 0.0)
        return jnp.where(small, jnp.exp(-s) * _expm1_ratio(near), (jnp.exp(far - s) - jnp.exp(-s)) / far)


@pytree
class Linear:
    """ℓ(m) = -m."""

    name = "linear"

    def value(self, m):
        """ℓ(m)."""
        return -m

    def slope(self, m):
        """ℓ'(m) = -1."""
        return -jnp.ones_like(m)

    def drop(self, s, delta):
        """(δ) / δ = 1."""
        return jnp.ones_like(delta)


LOSSES: dict[str, Loss] = {loss.name: loss for loss in (Logistic(), Exponential(), Linear())}


def named(loss: str) -> Loss:
    """The loss of that name."""
    if loss not in LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)}; got {loss!r}")
    return LOSSES[loss]


def _polynomial(coefficients: tuple[float, ...], x):
    total = jnp.full_like(x, coefficients[-1])
    for a in reversed(coefficients[:-1]):
        total = total * x + a
    return total


def _expm1_ratio(x):
    """(e^x - 1)/x for 0 ≤ x ≤ 1, to a few ulp, 1 at 0."""
    small = x < _SERIES_BELOW
    safe = jnp.where(small, 1.0, x)
    return jnp.where(small, _polynomial(_EXPM1_SERIES, x), (jnp.exp(safe) - 1.0) / safe)


def _log1p_ratio(x):
    """log(1 + x)/x for x ≥ 0, to a few ulp, 1 at 0; by log(1 + x) = 2 artanh(x/(2 + x))."""
    small = x < 2 * _SERIES_BELOW
    safe = jnp.where(small, 1.0, x)
    w = x / (2.0 + x)
    series = 2.0 / (2.0 + x) * _polynomial(_ATANH_SERIES, w * w)
    return jnp.where(small, series, jnp.log(1.0 + safe) / safe)

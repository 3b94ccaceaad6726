"""Losses ℓ of the margin m: slopes with their log scale, and differences of ℓ that do not cancel."""

import math
from collections.abc import Callable
from typing import Protocol, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsim._fold import largest, total
from jaxsim._tree import pytree, static

_PAST = 60.0  # where log(1 + e^x) is x in either precision, and e^x still a number
NODES = 16  # of the Gauss rule for losses given as functions
SERIES = 18  # 1/19! is below the rounding of float64
_FAR = 16.0  # beyond this deficit e^δ may overflow in a sum, and the plain difference has all its digits


class Loss(Protocol):
    """ℓ decreasing in the margin. `drop` is (ℓ(s - δ) - ℓ(s)) / δ for δ ≥ 0, with its limit -ℓ'(s) at 0."""

    @property
    def name(self) -> str:
        """The name that saved results carry."""
        ...

    @property
    def native(self) -> str | None:
        """The name of the loss in machine code; None, as where it is not said, where there is none."""
        ...

    def value(self, m: Float[Array, "..."]) -> Float[Array, "..."]:
        """ℓ(m)."""
        ...

    def log_value(self, m: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log ℓ(m), at any depth; NaN for a loss that is not positive."""
        ...

    def slope(self, m: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """(p, q) with ℓ'(m) = -p e^q and p of order one."""
        ...

    def drop(self, s: Float[Array, "..."], delta: Float[Array, "..."]) -> Float[Array, "..."]:
        """(ℓ(s - δ) - ℓ(s)) / δ."""
        ...


class Positive(Loss, Protocol):
    """ℓ for margins above 0 alone, which come with their scale as m e^scale. It says `positive = True`."""

    def value_at(self, m: Float[Array, "..."], scale: Float[Array, "..."]) -> Float[Array, "..."]:
        """ℓ(m e^scale)."""
        ...

    def slope_at(
        self, m: Float[Array, "..."], scale: Float[Array, "..."]
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """(p, q) with ℓ'(m e^scale) = -p e^q and p of order one."""
        ...


@pytree
class Logistic:
    """ℓ(m) = log(1 + e^-m)."""

    name, native = "logistic", "LOGISTIC"

    def value(self, m):
        """ℓ(m)."""
        return jax.nn.softplus(-m)

    def log_value(self, m):
        """-m + log(log1p(e^-m) / e^-m); the second term is about -e^-m/2 and negligible beyond 40."""
        near = jnp.minimum(m, 40.0)
        return jnp.log(jax.nn.softplus(-near)) + (near - m)

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

    name, native = "exponential", "EXPONENTIAL"

    def value(self, m):
        """ℓ(m)."""
        return jnp.exp(-m)

    def log_value(self, m):
        """-m."""
        return -m

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

    name, native = "linear", "LINEAR"

    def value(self, m):
        """ℓ(m)."""
        return -m

    def log_value(self, m):
        """Not a number: -m has no infimum."""
        return jnp.full_like(m, jnp.nan)

    def slope(self, m):
        """1."""
        return jnp.ones_like(m), jnp.zeros_like(m)

    def drop(self, s, delta):
        """(δ) / δ = 1."""
        return jnp.ones_like(delta)


@pytree
class Smooth:
    """Any smooth decreasing loss, given as a function with its derivative.

    Differences of ℓ are taken without cancellation, as the integral of -ℓ' by a 16-node Gauss rule for δ ≤ 1; for
    larger δ they are plain differences.

    Args:
        function: ℓ, a function that JAX can trace, elementwise.
        derivative: ℓ', likewise; it must stay a normal number at the margins of the problem, as nothing carries
            its logarithm apart.
        name: what saved results call it.

    Raises:
        ValueError: where on a grid from -20 to 20 ℓ is not finite or increases, or ℓ' is not its derivative.

    Example:
        >>> cauchy = Smooth(lambda m: -jax.numpy.arctan(m), lambda m: -1 / (1 + m**2), "arctangent")
        >>> cauchy.name
        'arctangent'
    """

    function: Callable[[Array], Array] = static()
    derivative: Callable[[Array], Array] = static()
    name: str = static(default="smooth")
    native = None

    def __post_init__(self):
        grid = jnp.linspace(-20.0, 20.0, 401)
        value, slope = np.asarray(self.function(grid), float), np.asarray(self.derivative(grid), float)
        if not (np.isfinite(value).all() and np.isfinite(slope).all()):
            raise ValueError("loss: expected finite values and derivatives for margins from -20 to 20")
        rises = (slope > 0) | (np.diff(value, append=-np.inf) > 0)
        if rises.any():
            raise ValueError(
                f"loss: expected a decreasing function of the margin; it increases at {float(grid[rises][0]):.3g}"
            )
        middle = (value[2:] - value[:-2]) / 0.2
        scale = np.abs(slope).max()
        wrong = np.abs(middle - slope[1:-1]) > 0.02 * np.abs(slope[1:-1]) + 1e-3 * scale
        if wrong.any():
            at = float(grid[1:-1][wrong][0])
            raise ValueError(f"loss: derivative does not match the function at margin {at:.3g}")

    def value(self, m):
        """ℓ(m)."""
        return self.function(m)

    def log_value(self, m):
        """Log ℓ(m)."""
        return jnp.log(self.function(m))

    def slope(self, m):
        """-ℓ'(m)."""
        return -self.derivative(m), jnp.zeros_like(m)

    def drop(self, s, delta):
        """The mean of -ℓ' over [s - δ, s]."""
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        near = jnp.zeros_like(delta)
        small = jnp.minimum(delta, 1.0)
        for x, w in zip(nodes.tolist(), weights.tolist(), strict=True):
            near = near - (w / 2) * self.derivative(s - small * ((1 + x) / 2))
        return jnp.where(delta <= 1.0, near, (self.function(s - delta) - self.function(s)) / jnp.maximum(delta, 1.0))


@pytree
class NegativeLog:
    """ℓ(m) = -log m, for margins that are probabilities: the cross-entropy of next-token prediction.

    No token may have a negative score. ℓ' = -1/m grows as m vanishes, so that margins come with their scale.

    Example:
        >>> import jaxsim
        >>> problem = jaxsim.data.next_token(jax.random.key(0), n=2)
        >>> run = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), jaxsim.init.Zero(), key=jax.random.key(1), lanes=1,
        ...                       steps=100, loss="negative-log")
        >>> float(run.log10_gap[0, 0].round(3)), run.settings["loss"]  # log 4 at W = 0, where attention is even
        (0.142, 'negative-log')
    """

    name, native, positive = "negative-log", None, True

    def value(self, m):
        """ℓ(m)."""
        return -jnp.log(m)

    def log_value(self, m):
        """log(-log m)."""
        return jnp.log(-jnp.log(m))

    def slope(self, m):
        """1/m."""
        return 1.0 / m, jnp.zeros_like(m)

    def drop(self, s, delta):
        """-log(1 - δ/s) / δ."""
        return _ratio(-jnp.log1p(-delta / s), delta, 1.0 / s)

    def value_at(self, m, scale):
        """ℓ(m e^scale)."""
        return -jnp.log(m) - scale

    def slope_at(self, m, scale):
        """(p, q) with ℓ'(m e^scale) = -p e^q."""
        return 1.0 / m, -scale


LOSSES: dict[str, Loss] = {loss.name: loss for loss in (Logistic(), Exponential(), Linear(), NegativeLog())}


def positive(loss: Loss) -> TypeGuard[Positive]:
    """Whether ℓ is defined for margins above 0 alone, and takes them with their scale."""
    return getattr(loss, "positive", False)


def named(loss: str | Loss) -> Loss:
    """The loss of that name; a loss object is its own."""
    if not isinstance(loss, str | type) and all(hasattr(loss, part) for part in ("value", "slope", "drop", "name")):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)} or a Smooth; got {loss!r}")
    return LOSSES[loss]


def scaled_mean(log_each: Float[Array, "..."]) -> tuple[Float[Array, " lanes"], Float[Array, " lanes"]]:
    """The mean over sequences of numbers given by their logarithms, and its log scale, a whole number."""
    axes = tuple(range(log_each.ndim - 1))
    scale = jnp.round(largest(log_each, *axes))
    mean = total(jnp.exp(log_each - scale), *axes) / len(log_each)
    return mean.reshape(mean.shape[-1:]), scale.reshape(scale.shape[-1:])


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

"""Rules that act on the entries of W, each in the coordinates of W itself: sign descent, Adam, ℓp mirror descent.

They are not invariant under rotations, so reduced coordinates would change them: `simulate` runs them on the full
d × e matrix (coordinates "full"), with the same scaled gradients.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxsim._check import finite_number, number_from_zero
from jaxsim._numbers import numbers
from jaxsim.model.gradient import Block
from jaxsim.model.sums import add_exactly
from jaxsim.rules.base import Defaults, Scaled, Stateless, decay, mix, pytree, register, static, step_size, times
from jaxsim.rules.optax_by_name import Named


@register
@pytree
class SignDescent(Stateless):
    """Sign descent: every entry moves by η against the sign of its derivative.

        W ← W - η sign(∇L(W))

    The steepest descent of the largest entry; entries whose derivative is exactly zero stay.

    Args:
        eta: step η of an entry, above 0, or a schedule.

    Reference:
        signSGD, Bernstein et al. 2018, arXiv 1802.04434, without noise.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.SignDescent(0.01)
        SignDescent(eta=0.01)
    """

    eta: Any

    name = "sign"
    coordinates = "full"

    def __post_init__(self):
        object.__setattr__(self, "eta", step_size("eta", self.eta))

    def update(self, gradient, state, step):
        """-η sign(direction)."""
        eta = self.eta(step, gradient.gap.dtype)
        return tuple(jax.tree.map(lambda leaf: -eta * jnp.sign(leaf), b.direction) for b in gradient.blocks), state


@register
@pytree
class Adam(Defaults):
    """Adam, with both averages carried at log scales of their own.

        m ← β1 m + (1 - β1) ∇,   v ← β2 v + (1 - β2) ∇²,   W ← W - η m̂ / (√v̂ + eps)

    with m̂ = m/(1 - β1^t) and v̂ = v/(1 - β2^t). The customary eps = 1e-8 stops the rule as soon as gradients fall
    below it; the default here is eps = 0, exact at any depth, with entries whose gradients have all been zero left
    where they are. Even so Adam saturates slowly: √v forgets by no more than √β2 a step, so gradients that shrink
    faster make steps that shrink too, and log ‖∇L‖ falls by about (1 - β2)/2 a step.

    Args:
        eta: step size η above 0, or a schedule.
        beta1: β1 from 0 to below 1.
        beta2: β2 from 0 to below 1.
        eps: added to √v̂, 0 or more.

    Reference:
        Kingma and Ba 2015, arXiv 1412.6980.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.Adam(0.01)
        Adam(eta=0.01, beta1=0.9, beta2=0.999, eps=0.0)
    """

    eta: Any
    beta1: Any = 0.9
    beta2: Any = 0.999
    eps: Any = 0.0
    rest1: Any = dataclasses.field(init=False, repr=False)  # 1 - β1
    rest2: Any = dataclasses.field(init=False, repr=False)

    name = "adam"
    coordinates = "full"

    def __post_init__(self):
        object.__setattr__(self, "eta", step_size("eta", self.eta))
        object.__setattr__(self, "beta1", numbers("beta1", self.beta1, decay))
        object.__setattr__(self, "beta2", numbers("beta2", self.beta2, decay))
        object.__setattr__(self, "eps", numbers("eps", self.eps, number_from_zero))
        object.__setattr__(self, "rest1", 1.0 - self.beta1)
        object.__setattr__(self, "rest2", 1.0 - self.beta2)

    def init(self, params):
        """Both sums empty."""
        return tuple((Scaled.zero(block), Scaled.zero(block)) for block in params)

    def update(self, gradient, state, step):
        """The ratio is taken at the scale of √v."""
        eta, real = self.eta(step, gradient.gap.dtype), gradient.gap.dtype
        t = (step + 1).astype(real)
        unbias = [rest / -jnp.expm1(t * jnp.log1p(-rest)) for rest in (self.rest1, self.rest2)]
        increments, after = [], []
        for block, (first, second) in zip(gradient.blocks, state, strict=True):
            squares = Block(jax.tree.map(jnp.square, block.direction), 2 * block.log_scale, block.norm**2)
            m, v = mix(first, self.rest1, block), mix(second, self.rest2, squares)
            half = v.log_scale / 2
            known = jnp.where(half == -jnp.inf, 0.0, half)
            factor = -eta * unbias[0] * jnp.exp(m.log_scale - known)

            def ratio(x, y, factor=factor, known=known):
                size = jnp.sqrt(unbias[1] * y) + jnp.where(self.eps == 0, 0.0, self.eps * jnp.exp(-known))
                return jnp.where(size == 0, 0.0, factor * x / jnp.where(size == 0, 1.0, size))

            increments.append(jax.tree.map(ratio, m.tree, v.tree))
            after.append((m, v))
        return tuple(increments), tuple(after)


@register
@pytree
class Mirror(Defaults):
    """Normalised mirror descent with the ℓp potential (1/p) Σ |w|^p of the entries.

        θ ← θ - η ∇L(W) / ‖∇L(W)‖_F,   W = sign(θ) |θ|^{1/(p-1)},   θ_0 = sign(W_0) |W_0|^{p-1}

    p = 2 is normalised gradient descent.

    Args:
        eta: step length η above 0, or a schedule.
        p: order of the potential, above 1.

    Reference:
        Mirror descent for attention: arXiv 2410.14581; here with normalised steps (convention of this project).

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.Mirror(0.1, p=3)
        Mirror(eta=0.1, p=3.0)
    """

    eta: Any
    p: Any = 1.5

    name = "mirror"
    coordinates = "full"
    undecayed_because = "it remembers θ, which would no longer be that of W"

    def __post_init__(self):
        object.__setattr__(self, "eta", step_size("eta", self.eta))
        object.__setattr__(self, "p", numbers("p", self.p, _above_one))

    def init(self, params):
        """θ_0, and what rounding has left out of θ."""
        theta = jax.tree.map(lambda w: jnp.sign(w) * jnp.abs(w) ** (self.p - 1), tuple(params))
        return theta, jax.tree.map(jnp.zeros_like, theta)

    def update(self, gradient, state, step):
        """The difference of W before and after."""
        eta = self.eta(step, gradient.gap.dtype)
        moved = tuple(times(jnp.where(b.norm == 0, 0.0, -eta / b.norm), b.direction) for b in gradient.blocks)
        (theta, shape), residual = jax.tree.flatten(state[0]), jax.tree.leaves(state[1])
        moves = jax.tree.leaves(moved)
        sums = [add_exactly(*parts) for parts in zip(theta, residual, moves, strict=True)]
        steps = [self._step(*parts) for parts in zip(theta, residual, moves, strict=True)]
        after, left = zip(*sums, strict=True)
        whole = jax.tree.unflatten
        return whole(shape, steps), (whole(shape, after), whole(shape, left))

    def _step(self, theta: Array, residual: Array, move: Array) -> Array:
        """W(θ + move) - W(θ) with W(θ) = sign(θ) |θ|^q: from the ratio of the two where they have one sign."""
        q = 1 / (self.p - 1)
        size, ratio = jnp.abs(theta), move / jnp.where(theta == 0, 1.0, theta + residual)
        one_sign = (theta != 0) & (ratio > -0.5)
        near = jnp.sign(theta) * size**q * jnp.expm1(q * jnp.log1p(jnp.where(one_sign, ratio, 0.0)))
        there = theta + move
        return jnp.where(one_sign, near, jnp.sign(there) * jnp.abs(there) ** q - jnp.sign(theta) * size**q)


@pytree
class Optax(Defaults):
    """Any optax transformation, applied to each lane on its own.

    optax works on plain numbers, so gradients must be handed over as such. With `normalise` they are divided by
    their norm first, which keeps them of order one at any depth but changes rules that weigh gradients of different
    steps against each other (momentum, Adam). Without it they are the gradients themselves: they underflow to zero
    once attention has saturated (at 1e-38 in float32, 1e-308 in float64), an eps inside the transformation shortens
    steps long before, and thresholds such as clipping have no effect.

    Args:
        transformation: an optax.GradientTransformation that includes its step size; one by
            `jaxsim.rules.transformation` can be told in files.
        normalise: whether to divide gradients by their Frobenius norm.

    Example:
        >>> import jaxsim, optax
        >>> jaxsim.rules.Optax(optax.sgd(0.1)).name
        'optax'
    """

    transformation: Any = static()
    normalise: bool = static(default=False)

    name = "optax"
    coordinates = "full"

    def __post_init__(self):
        if not (hasattr(self.transformation, "init") and hasattr(self.transformation, "update")):
            raise ValueError(f"transformation: expected an optax transformation; got {self.transformation!r}")

    def __repr__(self):
        named = f"{self.transformation!r}, " if isinstance(self.transformation, Named) else ""
        return f"Optax({named}normalise={self.normalise})"

    def init(self, params):
        """The transformation's state of every lane, lanes last."""
        with jax.numpy_dtype_promotion("standard"):  # which optax relies on
            return jax.vmap(self.transformation.init, in_axes=-1, out_axes=-1)(tuple(params))

    def update(self, gradient, state, step):
        """The transformation's updates; the parameters are not passed, so weight decay is not available."""
        given = tuple(
            times(1 / b.norm if self.normalise else jnp.exp(b.log_scale), b.direction) for b in gradient.blocks
        )
        with jax.numpy_dtype_promotion("standard"):
            return jax.vmap(lambda g, s: self.transformation.update(g, s), in_axes=-1, out_axes=-1)(given, state)


def _above_one(name: str, value: Any) -> float:
    number = finite_number(name, value)
    if number <= 1:
        raise ValueError(f"{name}: expected a number above 1; got {value}")
    return number

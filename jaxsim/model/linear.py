r"""Linear classification through the origin: the model that attention is compared with.

    L(w) = (1/n) Σ_i ℓ(m_i),   m_i = y_i wᵀx_i,   ∇L = (1/n) Σ_i ℓ'(m_i) y_i x_i

On separable data the infimum is 0, w diverges in norm and converges in direction to the hard-margin solution. w stays
in w_0 + span{x_i} and is carried in an orthonormal basis of it; ℓ' underflows, so its logarithm is in the scale.
"""

from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsim._fold import largest, total
from jaxsim._tree import Part, pytree, static
from jaxsim.coordinates import Params
from jaxsim.model.gradient import Block, Gradient
from jaxsim.model.losses import Loss, scaled_mean
from jaxsim.model.records import Records

Blocks = tuple[Params, ...]


@pytree
class LinearModel:
    """The model of one data set: rows y_i x_i in a basis of their span."""

    rows: Float[Part, "n r"]
    loss: Loss = static()

    def enter(self, start: Float[Array, "r lanes"]) -> Blocks:
        """Parameters at step 0: one block."""
        return ({"w": start},)

    def logits(self, params: Blocks) -> Float[Array, "n lanes"]:
        """The margins m_i."""
        return lax.dot(self.rows, params[0]["w"], precision=lax.Precision.HIGHEST)

    def gradient(self, params: Blocks, step: Array | None = None) -> Gradient:
        """∇L and L itself, each scaled; L* = 0."""
        return self.gradient_on(params)

    def gradient_on(self, params: Blocks, batch: Bool[Array, "n 1 1"] | None = None) -> Gradient:
        """The same for the mean over some of the rows."""
        margins, share = self.logits(params), 1.0
        slope, log_slope = self.loss.slope(margins)
        log_value = self.loss.log_value(margins)
        if batch is not None:
            share = len(batch) / batch.sum(dtype=slope.dtype)
            log_slope, log_value = (jnp.where(batch[:, 0], x, -jnp.inf) for x in (log_slope, log_value))
        kappa = jnp.round(largest(log_slope, 0)[0])
        g = -slope * jnp.exp(log_slope - kappa) * share / len(self.rows)
        direction = lax.dot(self.rows.T, g, precision=lax.Precision.HIGHEST)
        norm = jnp.sqrt(total(direction * direction, 0)[0])
        gap, scale = scaled_mean(log_value)
        terms = jnp.sqrt(total(g * g * (self.rows**2).sum(1, keepdims=True), 0)[0])
        return Gradient((Block({"w": direction}, kappa, norm, terms=terms),), share * gap, scale, jnp.zeros_like(gap))

    def observe(self, params: Blocks) -> Records:
        """Natural logarithms of ‖∇L‖ and L, and w."""
        gradient = self.gradient(params)
        return Records(gradient.log_norm, gradient.log_gap, params[0]["w"], gradient.log_cancellation)

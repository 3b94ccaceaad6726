r"""Softmax attention with a fixed decoder: the loss in W, its scaled gradient, and what to watch.

    L(W) = (1/n) Σ_i ℓ(m_i),   ∇L = Σ_it g_it x_it z_iᵀ,   L* = (1/n) Σ_i ℓ(s_{i,opt})

L* is an infimum that no W attains: margins stay below s_{i,opt}.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsim._tree import pytree, static
from jaxsim.model.coordinates import Frame, Params, Space
from jaxsim.model.gradient import Block, Gradient
from jaxsim.model.losses import Loss
from jaxsim.model.softmax import ScaledMap, scaled_map
from jaxsim.problem import Problem

Blocks = tuple[Params, ...]


@pytree
class Attention:
    """The model of one problem in the coordinates of one space. The last axis of every array runs over lanes."""

    space: Space
    scores: Float[Array, "n T 1"]
    best: Float[Array, "n 1 1"]
    visible: Bool[Array, "n T 1"] | None
    loss: Loss = static()

    def enter(self, start: Float[Array, "p lanes"]) -> Blocks:
        """Parameters at step 0: one block."""
        return (self.space.enter(start),)

    def logits(self, params: Blocks) -> Float[Array, "n T lanes"]:
        """a_it = x_itᵀ W z_i."""
        return self.space.logits(params[0])

    def attention_map(self, params: Blocks) -> ScaledMap:
        """The scaled attention map, hidden tokens left out."""
        logits = self.logits(params)
        if self.visible is not None:
            logits = jnp.where(self.visible, logits, -jnp.inf)
        return scaled_map(logits, self.scores)

    def gradient(self, params: Blocks) -> Gradient:
        """∇L(W) and L - L*, both scaled."""
        return self._gradient(self.attention_map(params))

    def _gradient(self, phi: ScaledMap) -> Gradient:
        n = self.scores.shape[0]
        g = phi.pull(self.loss.slope(phi.margin) / n, self.scores)
        direction, norm = self.space.pull(g)
        gap, gap_log_scale = self._loss_gap(phi)
        infimum = self.loss.value(self.best).mean()
        return Gradient((Block(direction, phi.log_scale, norm),), gap, gap_log_scale, infimum)

    def _loss_gap(self, phi: ScaledMap) -> tuple[Float[Array, " lanes"], Float[Array, " lanes"]]:
        """L - L* from δ_i = s_{i,opt} - m_i = (s_{i,opt} - s_ik) + eᶜ G_i, scaled by eᶜ where every k is optimal."""
        short = self.best - phi.score
        scale = jnp.where((short == 0).all((0, 1)), phi.log_scale, 0.0)
        delta = short + jnp.exp(phi.log_scale) * phi.gap
        scaled = short + jnp.exp(phi.log_scale - scale) * phi.gap
        return (scaled * self.loss.drop(self.best, delta)).mean((0, 1)), scale

    def observe(self, params: Blocks) -> dict[str, Array]:
        """What is recorded at a step: natural logarithms, and the position in W space."""
        phi = self.attention_map(params)
        gradient = self._gradient(phi)
        return {
            "log_grad_norm": gradient.log_norm,
            "log_gap": gradient.log_gap,
            "log_attention_gap": phi.log_attention_gap,
            "position": self.space.position(params[0]),
        }


def attention(problem: Problem, frame: Frame, loss: Loss, dtype: Any) -> Attention:
    """The model of `problem`, computed on the host in float64 and then cast to `dtype`."""
    scores = problem.scores
    best = scores[np.arange(len(scores)), problem.optimal]
    visible = None if problem.mask is None else jnp.asarray(problem.mask[:, :, None])
    return Attention(
        space=frame.space(dtype),
        scores=jnp.asarray(scores[:, :, None], dtype),
        best=jnp.asarray(best[:, None, None], dtype),
        visible=visible,
        loss=loss,
    )

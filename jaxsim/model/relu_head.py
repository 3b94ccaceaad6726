r"""Softmax attention under a ReLU head: scores that depend on where attention is.

    m_i = y_i Σ_h max(v_ih, 0),   v_ih = Σ_t φ_it v_ith,   v_ith = (Vᵀ x_it)_h

The head is linear on each pattern of active units, so with the scores of the present pattern,

    s_it = y_i Σ_h [v_ih > 0] v_ith,

margin and gradient are those of a fixed decoder: m_i = Σ_t φ_it s_it and g_it = (1/n) ℓ'(m_i) φ_it (s_it - m_i). A
sequence without an active unit has equal scores, and no gradient. Where attention comes to rest on a fold of the head,
the pattern alternates from step to step and the gradient does not vanish.

Lanes belong to different problems of one shape, so that many problems run side by side.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsim._fold import largest, total
from jaxsim._tree import Part, pytree, static
from jaxsim.coordinates import Dual, DualFrame, Params, host
from jaxsim.model.gradient import Block, Gradient
from jaxsim.model.losses import Loss, scaled_mean
from jaxsim.model.records import Records
from jaxsim.model.softmax import Scores, log_attention_gap, scaled_map

Blocks = tuple[Params, ...]


@pytree
class ReluHead:
    """One problem per lane. A start vector holds the centred logits."""

    space: Dual
    units: Float[Part, "n T h lanes"]  # v_ith
    labels: Float[Part, "n 1 lanes"]
    loss: Loss = static()

    def enter(self, start: Float[Array, "p lanes"]) -> Blocks:
        """Parameters at step 0: one block."""
        return (self.space.enter(start),)

    def logits(self, params: Blocks) -> Float[Array, "n T lanes"]:
        """a_it less the mean over the sequence."""
        return self.space.logits(params[0])

    def scores(self, logits: Float[Array, "n T lanes"]) -> Scores:
        """The token scores on the pattern of active units at these logits."""
        weights = jnp.exp(logits - largest(logits, 1))
        active = total(weights[:, :, None] * self.units, 1) > 0
        s = self.labels * total(jnp.where(active, self.units, 0.0), 2)[:, :, 0]
        best = largest(s, 1)
        return Scores(best - s, best, False)

    def gradient(self, params: Blocks, step: Array | None = None) -> Gradient:
        """∇L(W), scaled, and L itself: the infimum of the loss is not known, and is put at 0."""
        logits = self.logits(params)
        scores = self.scores(logits)
        phi = scaled_map(logits, scores)
        margin = scores.best - phi.deficit
        g, log_scale = phi.pull(*self.loss.slope(margin), scores)
        direction, norm, terms = self.space.pull(g)
        gap, scale = scaled_mean(self.loss.log_value(margin))
        return Gradient((Block(direction, log_scale, norm, self.space.inner, terms),), gap, scale, jnp.zeros_like(gap))

    def observe(self, params: Blocks) -> Records:
        """What is recorded at a step: natural logarithms, coefficients and logits."""
        gradient = self.gradient(params)
        gap = log_attention_gap(self.logits(params))
        position = self.space.position(params[0])
        return Records(gradient.log_norm, gradient.log_gap, position, log_attention_gap=gap)


def relu_heads(
    frames: Sequence[DualFrame], units: Float[np.ndarray, "p n T h"], labels: Float[np.ndarray, "p n"], loss: Loss,
    dtype: Any,
) -> ReluHead:  # fmt: skip
    """The model of several problems, one lane each, with leaves still on the host.

    Args:
        frames: dual coordinates of each problem.
        units: v_ith of each problem.
        labels: y of each problem.
        loss: ℓ.
        dtype: the run's dtype.
    """
    grams = np.stack([frame.gram for frame in frames])
    lengths = np.sqrt(np.diagonal(grams, axis1=1, axis2=2)).T.reshape(*frames[0].shape, -1)
    gram, size, own = host(dtype, grams, np.sqrt(np.abs(grams).max((1, 2))), lengths)
    values, signs = host(dtype, np.moveaxis(units, 0, -1), labels.T[:, None])
    return ReluHead(Dual(gram, size, own, frames[0].shape), values, signs, loss)


def stack_blocks(models: Sequence[ReluHead]) -> ReluHead:
    """Several models of equal shape with blocks first, as the driver takes them."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *models)

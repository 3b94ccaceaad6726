r"""Softmax attention whose decoder u is trained with W: two blocks of parameters, both in reduced coordinates.

    ∇_W L = Σ_it g_it x_it z_iᵀ,   g_it = (1/n) ℓ'(m_i) φ_it (s_it - m_i)
    ∇_u L = Σ_it h_it y_i x_it,    h_it = (1/n) ℓ'(m_i) φ_it

u stays in u_0 + span{y_i x_it}, so it is carried as the scores s_it = y_i uᵀ x_it and coefficients b, with the Gram
matrix (y_i x_it)·(y_j x_js), just as W is carried as logits and coefficients. Margins grow without bound and ℓ'
underflows; its logarithm is part of the scale of either gradient. The loss tends to 0, and L* = 0.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsim._tree import pytree, static
from jaxsim.model.attention import shown
from jaxsim.model.fold import largest
from jaxsim.model.frames import Frame
from jaxsim.model.gradient import Block, Gradient
from jaxsim.model.losses import Loss, scaled_mean
from jaxsim.model.softmax import Scores, log_attention_gap, scaled_map
from jaxsim.model.spaces import Dual, Params, Space, host
from jaxsim.problem import Problem

Blocks = tuple[Params, ...]


@pytree
class Joint:
    """The model of one problem with W and u trained. A start vector holds W's, then the scores of u_0."""

    space: Space
    decoder: Dual
    visible: Bool[Array, "n T 1"] | None
    loss: Loss = static()

    def enter(self, start: Float[Array, "p lanes"]) -> Blocks:
        """Parameters at step 0: W, then u."""
        N = self.decoder.gram.shape[-1]
        return self.space.enter(start[:-N]), self.decoder.enter(start[-N:])

    def logits(self, params: Blocks) -> Float[Array, "n T lanes"]:
        """The attention logits; -inf at hidden tokens."""
        return shown(self.space.logits(params[0]), self.visible)

    def scores(self, params: Blocks) -> Scores:
        """The token scores under the present u; hidden tokens score as the best, and weigh nothing."""
        s = params[1]["logits"]
        best = largest(shown(s, self.visible), 1)
        deficits = best - s if self.visible is None else jnp.where(self.visible, best - s, 0.0)
        return Scores(deficits, best, False)

    def gradient(self, params: Blocks, step: Array | None = None) -> Gradient:
        """Both gradients, and L itself as the gap to L* = 0, each with its own scale."""
        scores = self.scores(params)
        phi = scaled_map(self.logits(params), scores)
        margin = scores.best - phi.deficit
        slope, log_slope = self.loss.slope(margin)
        g, log_scale = phi.pull(slope, log_slope, scores)
        direction, norm = self.space.pull(g)
        kappa = jnp.round(largest(log_slope, 0, 1)[0, 0])
        h = -slope * jnp.exp(log_slope - kappa) / len(scores.best) * phi.attention(scores)
        raised, raised_norm = self.decoder.pull(h)
        gap, gap_scale = scaled_mean(self.loss.log_value(margin))
        blocks = (
            Block(direction, log_scale, norm, self.space.inner),
            Block(raised, kappa, raised_norm, self.decoder.inner),
        )
        return Gradient(blocks, gap, gap_scale, jnp.zeros_like(gap))

    def observe(self, params: Blocks) -> dict[str, Array]:
        """What is recorded at a step: natural logarithms, and the positions of W and u."""
        gradient = self.gradient(params)
        return {
            "log_grad_norm": gradient.log_norm,
            "log_gap": gradient.log_gap,
            "log_attention_gap": log_attention_gap(self.logits(params)),
            "position": self.space.position(params[0]),
            "decoder": self.decoder.position(params[1]),
        }


def joint(problem: Problem, frame: Frame, loss: Loss, dtype: Any) -> Joint:
    """The model of `problem` with its decoder trained."""
    n, T, _ = problem.shape
    rows = decoder_rows(problem).reshape(n * T, -1)
    gram = rows @ rows.T
    grams, size = host(dtype, gram, np.sqrt(np.abs(gram).max()))
    visible: Any = None if problem.mask is None else problem.mask[:, :, None]
    return jax.tree.map(jnp.asarray, Joint(frame.space(dtype), Dual(grams, size, (n, T)), visible, loss))


def decoder_rows(problem: Problem) -> Float[np.ndarray, "n T d"]:
    """y_i x_it, zero where hidden: s_it is its product with u."""
    return problem.labels[:, None, None] * problem.tokens * problem.visible[:, :, None]

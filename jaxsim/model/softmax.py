r"""The softmax attention map in scaled form: exact weights of the unselected tokens at any depth.

Per sequence i, k is the token with the largest logit; over the whole problem

    c    = max_{i, t≠k} (a_it - a_ik) ≤ 0         the log scale
    e_it = exp(a_it - a_ik - c),  e_ik = 0         scaled weights, at most 1
    D_i  = 1 + eᶜ Σ_t e_it                         softmax denominator
    G_i  = Σ_t e_it (s_ik - s_it) / D_i            scaled gap: m_i = s_ik - eᶜ G_i

s_ik - m_i is a sum of terms e_it (s_ik - s_it) and never a difference of nearly equal numbers, so the gradient in
the logits, scaled by e^-c, keeps its direction however far the softmax has saturated:

    g_it e^-c = (1/n) ℓ'(m_i) · { G_i / D_i                              t = k
                                { e_it (eᶜ G_i - (s_ik - s_it)) / D_i    t ≠ k

Where a sequence has two largest logits, c = 0 and no token is set apart (k is empty): all weights are plain
exponentials, D_i their sum, and the same formulas hold with s_ik read as 0.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsim._tree import pytree


@pytree
class ScaledMap:
    """The attention map of every sequence, the largest weight set apart. The last axis runs over lanes."""

    log_scale: Float[Array, " lanes"]
    largest: Bool[Array, "n T lanes"]
    others: Float[Array, "n T lanes"]
    denominator: Float[Array, "n 1 lanes"]
    score: Float[Array, "n 1 lanes"]
    gap: Float[Array, "n 1 lanes"]

    @property
    def margin(self) -> Float[Array, "n 1 lanes"]:
        """m_i = s_ik - eᶜ G_i."""
        return self.score - jnp.exp(self.log_scale) * self.gap

    def pull(self, slope: Float[Array, "n 1 lanes"], scores: Float[Array, "n T 1"]) -> Float[Array, "n T lanes"]:
        """G e^-c, the scaled gradient in the logits, from the slopes ℓ'(m_i)/n."""
        weight = slope / self.denominator
        shared = jnp.exp(self.log_scale) * self.gap - self.score
        return weight * jnp.where(self.largest, self.gap, self.others * (shared + scores))

    @property
    def log_attention_gap(self) -> Float[Array, " lanes"]:
        """Log max_i (1 - φ_ik)."""
        shared = self.others.sum(1, keepdims=True)
        outside = jnp.where(self.largest.any(1, keepdims=True), shared, shared - 1.0)
        return self.log_scale + jnp.log((outside / self.denominator).max((0, 1)))


def scaled_map(logits: Float[Array, "n T lanes"], scores: Float[Array, "n T 1"]) -> ScaledMap:
    """The scaled attention map of `logits`; hidden tokens have logit -inf."""
    n = logits.shape[0]
    below = logits - logits.max(1, keepdims=True)
    top = below >= 0
    runner_up = jnp.where(top, -jnp.inf, below).max((0, 1))
    tied = top.sum((0, 1), dtype=below.dtype) > n
    c = jnp.where(tied, 0.0, runner_up)
    largest = below > c
    others = jnp.where(largest, 0.0, jnp.exp(below - c))
    denominator = jnp.where(tied, 0.0, 1.0) + jnp.exp(c) * others.sum(1, keepdims=True)
    score = jnp.where(largest, scores, 0.0).sum(1, keepdims=True)
    gap = (others * (score - scores)).sum(1, keepdims=True) / denominator
    return ScaledMap(c, largest, others, denominator, score, gap)

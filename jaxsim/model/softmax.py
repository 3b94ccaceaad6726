r"""The softmax attention map in scaled form: exact gradients at any depth.

Scores enter as deficits δ_it = s_{i,opt} - s_it ≥ 0. In sequence i, k is the token with the largest logit (of several,
the best), and its peers are the tokens with the same deficit, k among them. With

    c_i  = max_{t not a peer} (a_it - a_ik) ≤ 0              the log scale of the sequence
    w_it = exp(a_it - a_ik) for peers, exp(a_it - a_ik - c_i) for the others, all at most 1
    D_i  = Σ_peers w_it + e^{c_i} Σ_others w_it               softmax denominator
    G_i  = Σ_t w_it (δ_it - δ_ik) / D_i                       scaled gap: m_i = s_ik - e^{c_i} G_i

every difference is one of scores, known exactly, and never one of margins. The gradient in the logits is

    g_it = (1/n) ℓ'(m_i) e^{c_i} w_it / D_i · { G_i                              t a peer
                                              { δ_ik - δ_it + e^{c_i} G_i        otherwise

Peers must be set apart with k: their own terms (δ_it - δ_ik) vanish, so a peer close to k says nothing about the
size of the gradient. Sequences are brought to one scale, κ ≈ max_i (c_i + log |ℓ'(m_i)|), only at the end; κ is rounded
to an integer, so that c_i - κ is exact and no digits are lost to the size of c_i.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxsim._fold import largest, smallest, total
from jaxsim._tree import Part, pytree, static


@pytree
class Scores:
    """What the map needs to know of the token scores."""

    deficits: Float[Part, "n T #lanes"]
    best: Float[Part, "n 1 #lanes"]
    distinct: bool = static()  # no two scores of a sequence are equal, so that k has no peer but itself


@pytree
class ScaledMap:
    """The attention map of every sequence in scaled form. The last axis runs over lanes."""

    log_scale: Float[Array, "n 1 lanes"]  # c_i; -inf where every visible token is a peer
    weights: Float[Array, "n T lanes"]
    denominator: Float[Array, "n 1 lanes"]
    short: Float[Array, "n 1 lanes"]  # δ_ik
    gap: Float[Array, "n 1 lanes"]

    @property
    def past_short(self) -> Float[Array, "n 1 lanes"]:
        """e^{c_i} G_i = s_ik - m_i."""
        return jnp.exp(self.log_scale) * self.gap

    @property
    def deficit(self) -> Float[Array, "n 1 lanes"]:
        """s_{i,opt} - m_i = δ_ik + e^{c_i} G_i."""
        return self.short + self.past_short

    def margin(self, scores: Scores) -> tuple[Float[Array, "n 1 lanes"], Float[Array, "n 1 lanes"]]:
        """m_i = mantissa · e^scale for scores that are not negative: without the difference where s_ik = 0."""
        selected = scores.best - self.short
        nothing = selected == 0
        return (
            jnp.where(nothing, -self.gap, selected - self.past_short),
            jnp.where(nothing, self.log_scale, 0.0),
        )

    def attention(self, scores: Scores) -> Float[Array, "n T lanes"]:
        """φ_it itself; what is below the smallest number is 0."""
        scale = jnp.where(scores.deficits == self.short, 1.0, jnp.exp(self.log_scale))
        return self.weights * scale / self.denominator

    def fall(self, scores: Scores) -> Float[Array, "n T lanes"]:
        """The braces of g_it: s_it - m_i, of peers at the scale e^{c_i}."""
        own = (self.short - scores.deficits) + self.past_short
        return jnp.where(scores.deficits == self.short, self.gap, own)

    def pull(self, slope: Float[Array, "n 1 lanes"], log_slope: Float[Array, "n 1 lanes"], scores: Scores):
        """The gradient in the logits as (g e^-κ, κ), from slopes ℓ'(m_i) = -slope · exp(log_slope)."""
        n = len(scores.best)
        kappa = jnp.round(largest(self.log_scale + log_slope, 0, 1)[0, 0])
        kappa = jnp.where(kappa == -jnp.inf, 0.0, kappa)  # all tokens score alike: the gradient is 0, at any scale
        weight = -slope * jnp.exp((self.log_scale - kappa) + log_slope) / (n * self.denominator)
        return weight * self.weights * self.fall(scores), kappa


def scaled_map(logits: Float[Array, "n T lanes"], scores: Scores) -> ScaledMap:
    """The scaled attention map of `logits`; hidden tokens have logit -inf."""
    top = largest(logits, 1)
    short = smallest(jnp.where(logits >= top, scores.deficits, jnp.inf), 1)
    peer = scores.deficits == short
    c = largest(jnp.where(peer, -jnp.inf, logits), 1) - top
    weights = jnp.exp((logits - top) - jnp.where(peer | (c == -jnp.inf), 0.0, c))
    peers = 1.0 if scores.distinct else total(jnp.where(peer, weights, 0.0), 1)
    # Σ_others w = Σ w - Σ_peers w loses nothing: the others hold a weight of 1, or nothing at all.
    denominator = peers + jnp.exp(c) * (total(weights, 1) - peers)
    gap = total(weights * (scores.deficits - short), 1) / denominator
    return ScaledMap(c, weights, denominator, short, gap)


def log_attention_gap(logits: Float[Array, "n T lanes"]) -> Float[Array, " lanes"]:
    """The logarithm of max_i (1 - φ_ik), k the largest logit, without computing 1 - φ."""
    below = logits - logits.max(1, keepdims=True)
    first = lax.broadcasted_iota(jnp.int32, logits.shape, 1) == lax.argmax(logits, 1, jnp.int32)[:, None]
    runner_up = jnp.where(first, -jnp.inf, below).max((0, 1))
    others = jnp.where(first, 0.0, jnp.exp(below - runner_up)).sum(1)
    return runner_up + jnp.log((others / jnp.exp(below).sum(1)).max(0))

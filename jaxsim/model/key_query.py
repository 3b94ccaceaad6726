r"""Softmax attention with W = K Qᵀ and both factors trained, the decoder fixed.

    a_it = x_itᵀ K Qᵀ z_i,   ∇_K L = Σ_it g_it x_it (Qᵀz_i)ᵀ,   ∇_Q L = Σ_it g_it z_i (Kᵀx_it)ᵀ

K moves only inside the span of the tokens and Q inside that of the queries, so both are carried in orthonormal bases of
these: r_x × m and r_z × m numbers. What lies outside neither moves nor shows in the logits.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxsim._fold import total
from jaxsim._tree import pytree, static
from jaxsim.coordinates import Params, Primal, PrimalFrame
from jaxsim.model.fixed_decoder import Attention, shown, token_scores
from jaxsim.model.gradient import Block, Gradient
from jaxsim.model.losses import Loss
from jaxsim.model.records import Records
from jaxsim.model.softmax import log_attention_gap
from jaxsim.problem import Problem

Blocks = tuple[Params, ...]


def _contract(pattern: str, a: Array, b: Array) -> Array:
    return jnp.einsum(pattern, a, b, precision=lax.Precision.HIGHEST)


@pytree
class KeyQuery:
    """The model of one problem with K and Q trained. A start vector holds K, then Q, each flattened row by row."""

    space: Primal
    fixed: Attention  # scores, mask and loss
    width: int = static()

    def enter(self, start: Float[Array, "p lanes"]) -> Blocks:
        """Parameters at step 0: K, then Q."""
        r_x = self.space.tokens.shape[2]
        lanes = start.shape[-1]
        keys, queries = start[: r_x * self.width], start[r_x * self.width :]
        return {"K": keys.reshape(r_x, self.width, lanes)}, {"Q": queries.reshape(-1, self.width, lanes)}

    def _images(self, params: Blocks) -> tuple[Float[Array, "n T m lanes"], Float[Array, "n m lanes"]]:
        """Kᵀ x_it and Qᵀ z_i."""
        keys = _contract("itx,xml->itml", self.space.tokens, params[0]["K"])
        return keys, _contract("iz,zml->iml", self.space.queries, params[1]["Q"])

    def logits(self, params: Blocks) -> Float[Array, "n T lanes"]:
        """The attention logits; -inf at hidden tokens."""
        return self._logits(*self._images(params))

    def _logits(self, keys: Array, queries: Array) -> Float[Array, "n T lanes"]:
        return shown(total(keys * queries[:, None], 2)[:, :, 0], self.fixed.visible)

    def gradient(self, params: Blocks, step: Array | None = None) -> Gradient:
        """Both gradients at one log scale, and L - L*."""
        keys, queries = self._images(params)
        g, log_scale, gap, gap_log_scale, infimum = self.fixed.in_logits(self._logits(keys, queries))
        along = total(g[:, :, None] * keys, 1)[:, 0]
        dK = _contract("itx,itml->xml", self.space.tokens, g[:, :, None] * queries[:, None])
        dQ = _contract("iz,iml->zml", self.space.queries, along)
        tokens, z = (self.space.tokens**2).sum(2)[:, :, None], (self.space.queries**2).sum(1)[:, None]
        size_K = total(g * g * tokens * total(queries * queries, 1), 0, 1)[0, 0]
        size_Q = total(along * along * z[:, None], 0, 1)[0, 0]
        blocks = tuple(
            Block({name: d}, log_scale, jnp.sqrt(total(d * d, 0, 1)[0, 0]), terms=jnp.sqrt(size))
            for name, d, size in (("K", dK, size_K), ("Q", dQ, size_Q))
        )
        return Gradient(blocks, gap, gap_log_scale, infimum)

    def observe(self, params: Blocks) -> Records:
        """What is recorded at a step: natural logarithms, and K and Q."""
        gradient = self.gradient(params)
        flat = [block.reshape(-1, block.shape[-1]) for block in (params[0]["K"], params[1]["Q"])]
        return Records(
            gradient.log_norm,
            gradient.log_gap,
            jnp.concatenate(flat),
            gradient.log_cancellation,
            log_attention_gap(self.logits(params)),
        )


def key_query(problem: Problem, frame: PrimalFrame, loss: Loss, dtype: Any, width: int) -> KeyQuery:
    """The model of `problem` with W = K Qᵀ of inner width `width`."""
    visible: Any = None if problem.mask is None else problem.mask[:, :, None]
    space = frame.space(dtype)
    fixed = Attention(space, token_scores(problem, dtype), visible, loss)
    return jax.tree.map(jnp.asarray, KeyQuery(space, fixed, width))

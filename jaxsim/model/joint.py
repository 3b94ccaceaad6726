r"""Softmax attention whose decoder u is trained with W: two blocks of parameters, both in reduced coordinates.

    ∇_W L = Σ_it g_it x_it z_iᵀ,   g_it = (1/n) ℓ'(m_i) φ_it (s_it - m_i)
    ∇_u L = Σ_it h_it y_i x_it,    h_it = (1/n) ℓ'(m_i) φ_it

u stays in u_0 + span{y_i x_it} and is carried on an orthonormal basis of the tokens, or as itself where W is: the
weight matrix (d × 1) of one sequence of all tokens. (Not by its Gram matrix: as a rule there are more tokens than
dimensions, and where labels cannot be told apart ∇_u L vanishes, which a quadratic form would not show.) Margins grow
without bound and ℓ' underflows; its logarithm is part of the scale of either gradient. The loss tends to 0, and L* = 0.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsim._basis import orthonormal_basis
from jaxsim._fold import largest
from jaxsim._tree import Part, pytree, static
from jaxsim.coordinates import Frame, Params, Primal, Space, host
from jaxsim.model.fixed_decoder import shown
from jaxsim.model.gradient import Block, Gradient
from jaxsim.model.losses import Loss, scaled_mean
from jaxsim.model.records import Records
from jaxsim.model.softmax import Scores, log_attention_gap, scaled_map
from jaxsim.problem import Problem

Blocks = tuple[Params, ...]


@pytree
class Joint:
    """The model of one problem with W and u trained. A start vector holds W's numbers, then those of u_0."""

    space: Space
    decoder: Primal
    visible: Bool[Part, "n T 1"] | None
    loss: Loss = static()
    shape: tuple[int, int] = static()
    own: int = static()  # numbers of a start that are the decoder's

    def enter(self, start: Float[Array, "p lanes"]) -> Blocks:
        """Parameters at step 0: W, then u."""
        return self.space.enter(start[: -self.own]), self.decoder.enter(start[-self.own :])

    def logits(self, params: Blocks) -> Float[Array, "n T lanes"]:
        """The attention logits; -inf at hidden tokens."""
        return shown(self.space.logits(params[0]), self.visible)

    def scores(self, params: Blocks) -> Scores:
        """The token scores under the present u; hidden tokens score as the best, and weigh nothing."""
        s = self.decoder.logits(params[1]).reshape(*self.shape, -1)
        best = largest(shown(s, self.visible), 1)
        deficits = best - s if self.visible is None else jnp.where(self.visible, best - s, 0.0)
        return Scores(deficits, best, False)

    def gradient(self, params: Blocks, step: Array | None = None) -> Gradient:
        """Both gradients, and L itself as the gap to L* = 0, each with its own scale."""
        return self.gradient_on(params)

    def gradient_on(self, params: Blocks, batch: Bool[Array, "n 1 1"] | None = None) -> Gradient:
        """The same for the mean over some of the sequences."""
        scores = self.scores(params)
        phi = scaled_map(self.logits(params), scores)
        margin = scores.best - phi.deficit
        slope, log_slope = self.loss.slope(margin)
        log_value = self.loss.log_value(margin)
        share = 1.0
        if batch is not None:
            share = len(batch) / batch.sum(dtype=slope.dtype)
            log_slope, log_value = (jnp.where(batch, x, -jnp.inf) for x in (log_slope, log_value))
        g, log_scale = phi.pull(share * slope, log_slope, scores)
        direction, norm, terms = self.space.pull(g)
        kappa = jnp.round(largest(log_slope, 0, 1)[0, 0])
        h = -share * slope * jnp.exp(log_slope - kappa) / len(scores.best) * phi.attention(scores)
        raised, raised_norm, raised_terms = self.decoder.pull(h.reshape(1, -1, h.shape[-1]))
        gap, gap_scale = scaled_mean(log_value)
        blocks = (
            Block(direction, log_scale, norm, self.space.inner, terms),
            Block(raised, kappa, raised_norm, self.decoder.inner, raised_terms),
        )
        return Gradient(blocks, share * gap, gap_scale, jnp.zeros_like(gap))

    def observe(self, params: Blocks) -> Records:
        """What is recorded at a step: natural logarithms, and the positions of W and u."""
        gradient = self.gradient(params)
        return Records(
            gradient.log_norm,
            gradient.log_gap,
            self.space.position(params[0]),
            gradient.log_cancellation,
            log_attention_gap(self.logits(params)),
            {"decoder": self.decoder.position(params[1])},
        )


class DecoderFrame:
    """The float64 host side of u, on an orthonormal basis of the tokens, or as it is."""

    def __init__(self, problem: Problem, kind: str):
        self.rows = decoder_rows(problem).reshape(-1, problem.shape[2])
        self._basis = np.eye(problem.shape[2]) if kind == "full" else orthonormal_basis(self.rows)

    def space(self, dtype: Any) -> Any:
        """The device side, its leaves still on the host."""
        lengths = np.linalg.norm(self.rows, axis=1)[None, :, None]
        return Primal(*host(dtype, (self.rows @ self._basis)[None], np.ones((1, 1)), lengths))

    def start(self, u: Float[np.ndarray, " d"]) -> Float[np.ndarray, " p"]:
        """The start vector of a decoder."""
        return u @ self._basis

    def locate(
        self, start: Float[np.ndarray, " d"], position: Float[np.ndarray, "... R p"], left: Float[np.ndarray, " _"]
    ) -> np.ndarray:
        """Decoders u (…, R, d) from u_0, recorded positions, and how much of u_0 outside the span is left."""
        return left[:, None] * (start - self._basis @ (start @ self._basis)) + position @ self._basis.T


def joint(problem: Problem, frame: Frame, loss: Loss, dtype: Any) -> Joint:
    """The model of `problem` with its decoder trained."""
    visible: Any = None if problem.mask is None else problem.mask[:, :, None]
    decoder = DecoderFrame(problem, frame.kind)
    own = len(decoder.start(problem.decoder))
    space = decoder.space(dtype)
    return jax.tree.map(jnp.asarray, Joint(frame.space(dtype), space, visible, loss, problem.shape[:2], own))


def decoder_rows(problem: Problem) -> Float[np.ndarray, "n T d"]:
    """y_i x_it, zero where hidden: s_it is its product with u."""
    return problem.labels[:, None, None] * problem.tokens * problem.visible[:, :, None]

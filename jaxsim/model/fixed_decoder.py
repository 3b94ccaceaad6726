r"""Softmax attention with a fixed decoder: the loss in W, its scaled gradient, and what to watch.

    L(W) = (1/n) Σ_i ℓ(m_i),   ∇L = Σ_it g_it x_it z_iᵀ,   L* = (1/n) Σ_i ℓ(s_{i,opt})

L* is an infimum that no W attains: margins stay below s_{i,opt}.

Of several heads, whose outputs are added, sequence (h, i) is that of head h, and the H sequences (·, i) share one loss:

    L(W) = (1/n) Σ_i ℓ(Σ_h m_hi),   g_hit = (1/n) ℓ'(Σ_h m_hi) φ_hit (s_hit - m_hi),   L* = (1/n) Σ_i ℓ(Σ_h s_{hi,opt})
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxsim._fold import largest, total
from jaxsim._tree import Part, pytree, static
from jaxsim.coordinates import Dual, Factored, Frame, Params, Space, host
from jaxsim.model.gradient import Block, Gradient
from jaxsim.model.losses import Loss, positive
from jaxsim.model.records import Records
from jaxsim.model.softmax import ScaledMap, Scores, log_attention_gap, scaled_map
from jaxsim.problem import Problem

Blocks = tuple[Params, ...]


@pytree
class Attention:
    """The model of one problem in the coordinates of one space. The last axis of every array runs over lanes.

    Of several `heads` the sequences of one come after those of another.
    """

    space: Space
    scores: Scores
    visible: Bool[Part, "n T #lanes"] | None
    loss: Loss = static()
    heads: int = static(default=1)

    def enter(self, start: Float[Array, "p lanes"]) -> Blocks:
        """Parameters at step 0: one block."""
        return (self.space.enter(start),)

    def logits(self, params: Blocks) -> Float[Array, "n T lanes"]:
        """a_it = x_itᵀ W z_i less the mean over the sequence, which nothing depends on; -inf at hidden tokens."""
        return shown(self.space.logits(params[0]), self.visible)

    def attention_map(self, params: Blocks) -> ScaledMap:
        """The scaled attention map."""
        return scaled_map(self.logits(params), self.scores)

    def gradient(self, params: Blocks, step: Array | None = None) -> Gradient:
        """∇L(W) and L - L*, both scaled."""
        return self._gradient(self.attention_map(params))

    def gradient_on(self, params: Blocks, batch: Bool[Array, "n 1 1"]) -> Gradient:
        """The same for the mean over some of the sequences."""
        return self._gradient(self.attention_map(params), batch)

    def _gradient(self, phi: ScaledMap, batch: Array | None = None) -> Gradient:
        g, log_scale, *rest = self._pull(phi, batch)
        direction, norm, terms = self.space.pull(g)
        return Gradient((Block(direction, log_scale, norm, self.space.inner, terms),), *rest)

    def in_logits(self, logits: Float[Array, "n T lanes"]) -> tuple[Array, Array, Array, Array, Array]:
        """The gradient with respect to the logits and its log scale; L - L* and its log scale; and L*."""
        return self._pull(scaled_map(logits, self.scores))

    def _pull(self, phi: ScaledMap, batch: Array | None = None) -> tuple[Array, Array, Array, Array, Array]:
        if positive(self.loss):
            slope, log_slope = self.loss.slope_at(*phi.margin(self.scores))
        else:
            slope, log_slope = self.loss.slope(self._added(self.scores.best - phi.deficit))
        least = self.loss.value(self._added(self.scores.best))
        if batch is None:
            g, log_scale = phi.pull(self._shared(self.heads * slope), self._shared(log_slope), self.scores)
            return g, log_scale, *self._loss_gap(phi), least.mean((0, 1))
        share = len(batch) / batch.sum(dtype=slope.dtype)
        g, log_scale = phi.pull(share * slope, jnp.where(batch, log_slope, -jnp.inf), self.scores)
        return g, log_scale, *self._loss_gap(phi, batch), share * jnp.where(batch, least, 0.0).mean((0, 1))

    def _loss_gap(
        self, phi: ScaledMap, batch: Array | None = None
    ) -> tuple[Float[Array, " lanes"], Float[Array, " lanes"]]:
        """L - L* from s_{i,opt} - m_i = δ_ik + e^{c_i} G_i, scaled by the largest e^{c_i} where every k is optimal."""
        short, log_scale = phi.short, phi.log_scale
        if batch is not None:
            short, log_scale = jnp.where(batch, short, 0.0), jnp.where(batch, log_scale, -jnp.inf)
        scale = jnp.where(largest(short, 0, 1) == 0, largest(log_scale, 0, 1), 0.0)[0, 0]
        if batch is not None:
            scale = jnp.where(scale == -jnp.inf, 0.0, scale)  # a batch of sequences with one token each
        scaled = jnp.where(phi.short == 0, jnp.exp(log_scale - scale) * phi.gap, phi.deficit)
        each = self._added(scaled) * self.loss.drop(self._added(self.scores.best), self._added(phi.deficit))
        if positive(self.loss):
            far = self.loss.value_at(*phi.margin(self.scores)) - self.loss.value(self.scores.best)
            near = phi.deficit < 0.5 * self.scores.best  # where logarithms would cancel
            each = jnp.where((phi.short == 0) | near, each, far)
        # A product, not a fold: the compiler would compute the logarithms anew for every use of the mean.
        mean = jnp.full((1, len(each)), 1.0 / len(each), each.dtype)
        if batch is not None:
            mean = batch[:, :, 0].astype(each.dtype).T / batch.sum(dtype=each.dtype)
        return lax.dot(mean, each[:, 0], precision=lax.Precision.HIGHEST)[0], scale

    def _added(self, x: Float[Array, "n 1 #lanes"]) -> Array:
        """What the heads have of each sequence, added up."""
        return x if self.heads == 1 else total(x.reshape(self.heads, -1, *x.shape[1:]), 0)[0]

    def _shared(self, x: Array) -> Float[Array, "n 1 #lanes"]:
        """What belongs to each sequence, for all of its heads."""
        return x if self.heads == 1 else jnp.tile(x, (self.heads, 1, 1))

    def observe(self, params: Blocks) -> Records:
        """What is recorded at a step: natural logarithms, and the position in W space."""
        phi = self.attention_map(params)
        gradient = self._gradient(phi)
        return Records(
            gradient.log_norm,
            gradient.log_gap,
            self.space.position(params[0]),
            gradient.log_cancellation,
            log_attention_gap(self.logits(params)),
        )


def shown(x: Float[Array, "n T lanes"], visible: Bool[Array, "n T #lanes"] | None) -> Float[Array, "n T lanes"]:
    """The same, -inf at hidden tokens."""
    return x if visible is None else jnp.where(visible, x, -jnp.inf)


def attention(problem: Problem, frame: Frame, loss: Loss, dtype: Any, heads: int = 1) -> Attention:
    """The model of `problem`, computed on the host in float64 and then cast to `dtype`.

    Args:
        problem: the data.
        frame: their coordinates.
        loss: ℓ.
        dtype: of the run.
        heads: how many heads the problem is made of, one after another: rows of different heads are at right angles.
    """
    model = _on_host(problem, frame, loss, dtype)
    space = model.space.repeated(heads) if isinstance(model.space, Dual) else model.space
    return jax.tree.map(jnp.asarray, dataclasses.replace(model, space=space, heads=heads))


def stacked(blocks: Sequence[Sequence[tuple[Problem, Frame]]], loss: Loss, dtype: Any, each: int) -> Attention:
    """One model for problems of one shape in dual coordinates, side by side; every leaf has the blocks as first axis.

    Args:
        blocks: the problems of every block, with their frames.
        loss: ℓ.
        dtype: of the run.
        each: lanes for every problem of a block in turn.
    """
    models = [[_on_host(problem, frame, loss, dtype) for problem, frame in block] for block in blocks]
    distinct = all(m.scores.distinct for block in models for m in block)
    masked = any(problem.mask is not None for block in blocks for problem, _ in block)
    made = [
        _side_by_side(block, [problem.visible for problem, _ in own] if masked else None, distinct, each)
        for block, own in zip(models, blocks, strict=True)
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *made)


def _side_by_side(models: list[Any], seen: list[np.ndarray] | None, distinct: bool, each: int) -> Attention:
    def spread(parts) -> Any:
        return np.repeat(np.concatenate(list(parts), axis=-1), each, axis=-1)

    size, lengths = spread(m.space.size[None] for m in models), spread(m.space.lengths for m in models)
    matrix: Any = np.stack([m.space.factor if isinstance(m.space, Factored) else m.space.gram for m in models])
    space = type(models[0].space)(matrix, size, lengths, models[0].space.shape)
    scores = Scores(spread(m.scores.deficits for m in models), spread(m.scores.best for m in models), distinct)
    visible = None if seen is None else spread(shown[:, :, None] for shown in seen)
    return Attention(space, scores, visible, models[0].loss)


def _on_host(problem: Problem, frame: Frame, loss: Loss, dtype: Any) -> Any:
    visible: Any = None if problem.mask is None else problem.mask[:, :, None]
    return Attention(frame.space(dtype), token_scores(problem, dtype), visible, loss)


def token_scores(problem: Problem, dtype: Any) -> Scores:
    """The deficits and best scores of a problem in the run's dtype; differences are taken in float64."""
    n = len(problem.labels)
    best = problem.scores[np.arange(n), problem.optimal]
    deficits = problem.deficits
    rounded = np.sort(deficits.astype(dtype), axis=1)
    distinct = bool((np.diff(rounded, axis=1) > 0).all())
    given, top = host(dtype, deficits[:, :, None], best[:, None, None])
    return Scores(given, top, distinct)

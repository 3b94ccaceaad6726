"""Next-token prediction: published draws, their arithmetic in its order, and right gradients (arXiv 2403.08081)."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim.margin import GraphSVM, graph_svm
from jaxsim.reproduce import draws

N, T, K, D = 6, 4, 6, 8
SELECTED = 1e-2  # as published: a token with a larger weight is selected
EPS = float(np.finfo(float).eps)


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Problems of one size, problems first: embeddings e, token numbers, labels, W_0."""

    embeddings: Float[np.ndarray, "p K d"]
    sequences: Int[np.ndarray, "p n T"]
    labels: Int[np.ndarray, "p n"]
    starts: Float[np.ndarray, "p d d"]

    @functools.cached_property
    def tokens(self) -> Float[np.ndarray, "p n T d"]:
        """x_it; the last of each sequence is its query."""
        return self.embeddings[np.arange(len(self.labels))[:, None, None], self.sequences]

    @functools.cached_property
    def are_label(self) -> Bool[np.ndarray, "p n T"]:
        """Whether x_it is the label."""
        return self.sequences == self.labels[:, :, None]


@dataclasses.dataclass(frozen=True, eq=False)
class Path:
    """W and attention at the recorded steps, and the length of the last step over η."""

    W: Float[np.ndarray, "R p d d"]
    attention: Float[np.ndarray, "R p n T"]
    step_length: Float[np.ndarray, " p"]


def draw(count: int, layers: int, seed: int = 1) -> Batch:
    """The published problems and starts: drawn until a graph has a cycle; of `layers` made of each the first is W_0."""
    stream, parts = draws.Stream(seed, vectorised=False), []
    for _ in range(count):
        while True:
            e, sequences, labels = _problem(stream)
            components = graph_svm(e, sequences, labels).components
            if cyclic(sequences, components):
                break
        starts = [stream.layer(D) for _ in range(layers)]
        parts.append((e, sequences, labels, starts[0].astype(float)))
    return Batch(*map(np.stack, zip(*parts, strict=True)))


def _problem(stream: draws.Stream) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    e = stream.normal(K, D).astype(float)
    sequences, labels = stream.subsets(N, K, T), stream.choices(K, N)
    for i in np.flatnonzero(~(sequences == labels[:, None]).any(1)):
        labels[i] = sequences[i, stream.below(T)]
    return e / np.linalg.norm(e, axis=1, keepdims=True), sequences, labels


def cyclic(sequences: Int[np.ndarray, "n T"], components: Int[np.ndarray, "n T"]) -> bool:
    """Whether two tokens share a component of some graph."""
    found: dict[tuple[int, int], set[int]] = {}
    for tokens, own in zip(sequences.tolist(), components.tolist(), strict=True):
        for token, component in zip(tokens, own, strict=True):
            found.setdefault((tokens[-1], component), set()).add(token)
    return any(len(tokens) > 1 for tokens in found.values())


Spread = Callable[[np.ndarray, np.ndarray], np.ndarray]


def rounded(phi: np.ndarray, r: np.ndarray) -> np.ndarray:
    """φ_t (r_t - Σ_s φ_s r_s) as autodiff has it: once attention has saturated, what rounding leaves."""
    return (r - _in_order(r * phi)[..., None]) * phi


def exact(phi: np.ndarray, r: np.ndarray) -> np.ndarray:
    """The same from differences, φ_t Σ_s φ_s (r_t - r_s), which keeps its digits while φ is a number."""
    return phi * ((r[..., :, None] - r[..., None, :]) * phi[..., None, :]).sum(-1)


def likelihood(batch: Batch, phi: np.ndarray, spread: Spread, eps: float) -> Float[np.ndarray, "p n T"]:
    """The gradient in φ of the mean of -log(Σ_{t: x_t = y} φ_t + eps)."""
    p = _in_order(batch.are_label * phi)
    return batch.are_label * (-(1 / N) / (p + eps))[..., None]


def squared(batch: Batch, phi: np.ndarray, spread: Spread, eps: float) -> Float[np.ndarray, "p n T"]:
    """The gradient in φ of the mean of (1 - softmax(E Xᵀφ)_y)², E the embeddings as classifier."""
    tokens, e = batch.tokens, batch.embeddings
    mixed = _in_order(np.moveaxis(phi[..., None] * tokens, 2, -1))
    guess = _softmax(np.einsum("pkd,pid->pik", e, mixed))
    own = np.arange(K) == batch.labels[:, :, None]
    slope = spread(guess, own * -(2 * (1 - guess) * (1 / N)))
    return _in_order(np.einsum("pik,pkd->pid", slope, e)[:, :, None] * tokens)


def descend(
    batch: Batch, loss: Any, *, eta: float, record: Sequence[int], published: bool
) -> Path:  # fmt: skip
    """NGD on W from the starts of the batch.

    Args:
        batch: the problems.
        loss: `likelihood` or `squared`.
        eta: the step size η.
        record: steps to record, ascending.
        published: whether with unscaled gradients, and eps in the norm and the logarithm; else with right ones.
    """
    spread, eps = (rounded, EPS) if published else (exact, 0.0)
    tokens, W, kept, size = batch.tokens, batch.starts, [], np.ones(len(batch.labels))
    queries = tokens[:, :, -1]
    for step in range(record[-1] + 1):
        images = np.einsum("pde,pie->pid", W, queries)
        phi = _softmax(_in_order(images[:, :, None] * tokens))
        if step in record:
            kept.append((W, phi))
        g = spread(phi, loss(batch, phi, spread, eps))
        gradient = np.einsum("pid,pie->pde", _in_order(np.moveaxis(g[..., None] * tokens, 2, -1)), queries)
        if not published:
            gradient = gradient / np.abs(gradient).max((1, 2), keepdims=True)  # its square may be no number
        norm = np.sqrt((gradient * gradient).sum((1, 2)))
        if step < record[-1]:
            size = norm / (norm + eps)
            W = W - eta * (gradient / (norm + eps)[:, None, None])
    return Path(*map(np.stack, zip(*kept, strict=True)), size)  # type: ignore[misc]


def limits(batch: Batch, chosen: np.ndarray) -> list[GraphSVM]:
    """The graph-SVM of every problem, from labels (p, n) or chosen places (p, n, T)."""
    return [graph_svm(*parts) for parts in zip(batch.embeddings, batch.sequences, chosen, strict=True)]


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / _in_order(weights)[..., None]


def _in_order(terms: np.ndarray) -> np.ndarray:
    """The sum over the last axis, one term after the other, as the published program adds."""
    total = terms[..., 0]
    for k in range(1, terms.shape[-1]):
        total = total + terms[..., k]
    return total

"""Next-token prediction: sequences over a vocabulary, whose labels are tokens of theirs."""

from typing import Any

import jax
import numpy as np

from jaxsim._check import finite_array, token_numbers, whole_number
from jaxsim.data.synthetic import generator
from jaxsim.problem import Problem


def token_labels(embeddings: Any, sequences: Any, labels: Any) -> Problem:
    """Self-attention whose label is a token of the sequence, under an identity classifier.

        a_it = e_{x_it}ᵀ W e_{x_iT},   m_i = Σ_{t: x_it = y_i} φ_it

    In terms of `Problem` the keys are embeddings, the last of them the query, and a token scores 1 where it is the
    label and 0 elsewhere: the margin is the probability of the label. With the loss "negative-log" it is the
    cross-entropy of next-token prediction. Its direction is that of `jaxsim.margin.graph_svm`; where no tokens outrank
    each other in turn, that is W_mm.

    Args:
        embeddings: e, one row for each of K tokens, shape (K, d).
        sequences: token numbers, distinct within a sequence, the last of each its query, shape (n, T).
        labels: the token that follows each sequence, which must be one of it, shape (n,).

    Raises:
        ValueError: where an argument has the wrong shape, or a token is out of range, repeated in its sequence, or no
            token of the sequence it labels.

    Reference:
        Li, Huang, Ildiz, Rawat, Oymak, arXiv 2403.08081, as their released program states it.

    Example:
        >>> problem = token_labels(np.eye(3), [[0, 1, 2], [1, 0, 2]], [0, 0])
        >>> problem.scores.tolist(), problem.W_shape
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], (3, 3))
    """
    e = finite_array("embeddings", embeddings, (None, None), "(K, d)")
    tokens, wanted = token_numbers("sequences", sequences, len(e)), np.array(labels)
    if wanted.shape != tokens.shape[:1] or not np.issubdtype(wanted.dtype, np.integer):
        raise ValueError(f"labels: expected {len(tokens)} token numbers; got {wanted.dtype} of shape {wanted.shape}")
    is_label = tokens == wanted[:, None]
    if not is_label.any(1).all():
        raise ValueError(
            f"labels: expected a token of each sequence; sequence {int(is_label.any(1).argmin())} has none"
        )
    repeated = (np.diff(np.sort(tokens, axis=1), axis=1) == 0).any(1)
    if repeated.any():
        raise ValueError(f"sequences: expected distinct tokens; sequence {int(repeated.argmax())} repeats one")
    keys = e[tokens]
    return Problem(is_label[:, :, None], keys[:, -1], np.ones(len(tokens)), [1.0], keys=keys)


def next_token(key: jax.Array, n: int = 6, T: int = 4, K: int = 6, d: int = 8) -> Problem:
    """Sequences of distinct tokens, drawn at random, each labelled by one of its own; embeddings on the unit sphere.

    The setting of arXiv 2403.08081 (n=6, T=4, K=6, d=8), whose graphs have a cycle there.

    Args:
        key: the JAX key that the draws depend on.
        n: sequences.
        T: tokens per sequence.
        K: tokens of the vocabulary, at least T.
        d: embedding dimension.

    Example:
        >>> import jax, jaxsim
        >>> jaxsim.data.next_token(jax.random.key(0), n=3).scores.sum(1).tolist()
        [1.0, 1.0, 1.0]
    """
    for name, size in (("n", n), ("d", d)):
        whole_number(name, size)
    whole_number("K", K, at_least=whole_number("T", T, at_least=2))
    rng = generator(key)
    embeddings = rng.standard_normal((K, d))
    sequences = rng.permuted(np.tile(np.arange(K), (n, 1)), axis=1)[:, :T]
    labels = sequences[np.arange(n), rng.integers(0, T, n)]
    return token_labels(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), sequences, labels)

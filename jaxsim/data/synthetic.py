"""Random problem families. A family is a function of a key and sizes; equal keys give equal problems."""

from typing import Any

import jax
import numpy as np

from jaxsim import _machine
from jaxsim._check import finite_array, positive_number, random_key, whole_number
from jaxsim.problem import Problem


def generator(key: jax.Array) -> np.random.Generator:
    """A NumPy stream seeded by a JAX key, so that draws do not depend on the device or on x64."""
    return np.random.default_rng(np.asarray(jax.random.key_data(random_key("key", key))).ravel().tolist())


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _sizes(n: int, T: int, d: int) -> None:
    whole_number("n", n)
    whole_number("T", T, at_least=2)
    whole_number("d", d)
    largest = max(("n", n), ("T", T), ("d", d), key=lambda size: size[1])[0]
    # Drawn and scaled, and then copied by the problem.
    _machine.need(largest, 2 * 8 * n * T * d, f"n·T·d = {n:,} × {T:,} × {d:,} numbers, twice,")


def unit_sphere(key: jax.Array, n: int = 6, T: int = 8, d: int = 10, self_attention: bool = False) -> Problem:
    """Tokens, queries and decoder uniform on the unit sphere, labels fair coins.

    The setting of the local-convergence experiment of arXiv 2308.16898 (n=6, T=8, d=10).

    Args:
        key: the JAX key that the draws depend on.
        n: sequences.
        T: tokens per sequence.
        d: embedding dimension.
        self_attention: use the first token of each sequence as its query, instead of a fresh draw.

    Example:
        >>> import jax, jaxsim
        >>> jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5).shape
        (3, 4, 5)
    """
    _sizes(n, T, d)
    rng = generator(key)
    tokens = _unit(rng.standard_normal((n, T, d)))
    queries = 0 if self_attention else _unit(rng.standard_normal((n, d)))
    labels = rng.choice([-1.0, 1.0], n)
    return Problem(tokens, queries, labels, _unit(rng.standard_normal(d)))


def signal_noise(
    key: jax.Array, n: int = 10, T: int = 5, d: int = 64, signal: float = 2.0, noise: float = 0.3
) -> Problem:
    """One token of each sequence carries its class direction; the others are Gaussian noise.

    With orthonormal class directions μ₊ and μ₋, sequence i has the token `signal`·μ_{y_i} at a random place, T - 1
    tokens with N(0, noise²) entries, the signal token as its query, and the decoder (μ₊ - μ₋)/√2.
    Convention of this project; the family follows the data model of arXiv 2402.05738.

    Args:
        key: the JAX key that the draws depend on.
        n: sequences, labels alternating.
        T: tokens per sequence.
        d: embedding dimension, at least 2.
        signal: norm of the signal token.
        noise: standard deviation of each entry of a noise token.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.signal_noise(jax.random.key(0), n=4, T=3, d=16)
        >>> problem.labels.tolist()
        [1.0, -1.0, 1.0, -1.0]
    """
    _sizes(n, T, d)
    whole_number("d", d, at_least=2)
    positive_number("signal", signal)
    positive_number("noise", noise)
    rng = generator(key)
    directions = np.linalg.qr(rng.standard_normal((d, 2)))[0].T
    labels = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    tokens = noise * rng.standard_normal((n, T, d))
    place = rng.integers(0, T, n)
    tokens[np.arange(n), place] = signal * directions[(labels < 0).astype(int)]
    return Problem(tokens, place, labels, (directions[0] - directions[1]) / np.sqrt(2))


def orthonormal(key: jax.Array, n: int = 4, T: int = 4, d: int = 16) -> Problem:
    """All n·T tokens orthonormal, the first of each sequence its query, a random unit decoder.

    The vectors x_it ⊗ z_i are then orthonormal too, the Gram matrix is the identity, and the
    dynamics of the sequences decouple.

    Args:
        key: the JAX key that the draws depend on.
        n: sequences.
        T: tokens per sequence.
        d: embedding dimension, at least n·T.

    Example:
        >>> import jax, jaxsim
        >>> jaxsim.data.orthonormal(jax.random.key(0), n=2, T=3, d=6).shape
        (2, 3, 6)
    """
    _sizes(n, T, d)
    if d < n * T:
        raise ValueError(f"d: expected at least n·T = {n * T} for {n * T} orthonormal tokens; got {d}")
    rng = generator(key)
    basis = np.linalg.qr(rng.standard_normal((d, n * T)))[0].T
    labels = rng.choice([-1.0, 1.0], n)
    return Problem(basis.reshape(n, T, d), 0, labels, _unit(rng.standard_normal(d)))


def prompt(
    tokens: Any, labels: Any, decoder: Any, weights: Any = None, mask: Any = None, test: Problem | None = None
) -> Problem:
    """Prompt attention softmax(X W p): W fixed, the prompt p trained in its place.

    In terms of `Problem` the keys are k_it = Wᵀ x_it, every query is the number 1, and what is trained is a matrix
    of one column, p. Starts given as arrays have shape (e, 1).

    Args:
        tokens: x, shape (n, T, d).
        labels: y, shape (n,), each +1 or -1.
        decoder: the value head v (u elsewhere), shape (d,).
        weights: the fixed W, shape (d, e); by default the identity.
        mask: as in `Problem`.
        test: as in `Problem`; itself made by `prompt`.

    Reference:
        Tarzanagh, Li, Zhang, Oymak, arXiv 2306.13596.

    Example:
        >>> import numpy as np
        >>> p = prompt(np.eye(3)[None], [1], [1.0, 0.0, 0.0])
        >>> p.W_shape
        (3, 1)
    """
    x = finite_array("tokens", tokens, (None, None, None), "(n, T, d)")
    keys = None
    if weights is not None:
        keys = x @ finite_array("weights", weights, (x.shape[2], None), f"(d, e) with d = {x.shape[2]}")
    return Problem(x, np.ones((len(x), 1)), labels, decoder, mask, keys, test)

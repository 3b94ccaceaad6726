"""Families of problems along a number: between two data sets, and with ever more labels flipped."""

from typing import Any

import jax
import numpy as np

from jaxsim._check import finite_number, random_key
from jaxsim.problem import Problem


def between(first: Problem, second: Problem, share: float) -> Problem:
    """The data set between two of one shape: tokens, queries, keys and decoder interpolated; labels must agree.

    Args:
        first: at share 0.
        second: at share 1.
        share: from 0 to 1.

    Raises:
        ValueError: where shapes, labels or masks differ.
    """
    if first.shape != second.shape or first.W_shape != second.W_shape:
        raise ValueError(f"second: expected a problem of shape {first.shape}; got {second.shape}")
    if not (np.array_equal(first.labels, second.labels) and np.array_equal(first.visible, second.visible)):
        raise ValueError("second: expected the labels and the mask of the first problem; got others")
    if (first.given_keys is None) != (second.given_keys is None):
        raise ValueError("second: expected keys if the first problem has keys, and none if it has none")
    w = _share(share)

    def mix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (1 - w) * a + w * b

    keys = None if first.given_keys is None else mix(first.keys, second.keys)
    queries, decoder = mix(first.queries, second.queries), mix(first.decoder, second.decoder)
    return Problem(mix(first.tokens, second.tokens), queries, first.labels, decoder, first.mask, keys)


def flip_labels(problem: Problem, share: float, key: jax.Array) -> Problem:
    """Label noise: sequence i has its label flipped where its uniform draw lies below `share`.

    With the same key the flipped sequences of a smaller share are among those of a larger one.

    Raises:
        ValueError: for a share outside 0 to 1.
    """
    share = _share(share)
    draws = np.asarray(jax.random.uniform(random_key("key", key), (len(problem.labels),)))
    labels = np.where(draws < share, -problem.labels, problem.labels)
    return Problem(problem.tokens, problem.queries, labels, problem.decoder, problem.mask, problem.given_keys)


def _share(value: Any) -> float:
    share = finite_number("share", value)
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected a number from 0 to 1; got {value}")
    return share

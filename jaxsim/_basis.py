"""Orthonormal bases, the one way they are made."""

import numpy as np
from jaxtyping import Float


def orthonormal_basis(vectors: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "d r"]:
    """An orthonormal basis of the row span; signs fixed by making each column's largest entry positive.

    Rows are brought to length 1 first, so that each lies in the span of the basis to its own rounding, however small
    it is beside the others.
    """
    _, singular, rows = np.linalg.svd(units(vectors), full_matrices=False)
    rows = rows[singular > singular[0] * max(vectors.shape) * np.finfo(float).eps]
    if len(rows) == vectors.shape[1]:
        return np.eye(len(rows))
    largest = rows[np.arange(len(rows)), np.abs(rows).argmax(1)]
    return (rows * np.sign(largest)[:, None]).T


def units(vectors: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "N d"]:
    """Every row over its length, which may be as small or large as numbers are; rows of zeros stay."""
    largest = np.abs(vectors).max(1, keepdims=True, initial=0.0)
    scaled = vectors / np.where(largest > 0, largest, 1.0)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(length > 0, length, 1.0)

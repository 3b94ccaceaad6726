"""Orthonormal bases, the one way they are made."""

import numpy as np
from jaxtyping import Float


def orthonormal_basis(vectors: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "d r"]:
    """An orthonormal basis of the row span; signs fixed by making each column's largest entry positive."""
    _, singular, rows = np.linalg.svd(vectors, full_matrices=False)
    rows = rows[singular > singular[0] * max(vectors.shape) * np.finfo(float).eps]
    if len(rows) == vectors.shape[1]:
        return np.eye(len(rows))
    largest = rows[np.arange(len(rows)), np.abs(rows).argmax(1)]
    return (rows * np.sign(largest)[:, None]).T

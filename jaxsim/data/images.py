"""Real images as token sequences: scikit-learn's bundled handwritten digits."""

import functools
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsim._check import positive_number, whole_number
from jaxsim.problem import Problem

PIXEL_MAX = 16.0  # the bundled images have integer pixels from 0 to 16


def digits(
    classes: tuple[int, int] = (3, 8),
    images: int = 20,
    positions: bool = False,
    ridge: float = 1.0,
) -> Problem:
    """Two classes of handwritten digits, each 8×8 image cut into four 4×4 patches.

    Pixels are divided by 16 and the mean patch is subtracted; the query of an image is its mean token;
    the decoder solves the ridge regression min_u Σ_i (y_i - uᵀ x̄_i)² + ridge·‖u‖² on the mean tokens x̄_i.

    Args:
        classes: the digits labelled -1 and +1.
        images: number of images n, half of each class, the first ones of the data set.
        positions: append the one-hot position of the patch to each token.
        ridge: the regression's penalty, above 0.

    Reference:
        scikit-learn's `load_digits`: UCI Optical Recognition of Handwritten Digits (test part).

    Example:
        >>> import jaxsim
        >>> jaxsim.data.digits(images=20).shape
        (20, 4, 16)
    """
    (tokens, labels), _ = _patches(classes, images)
    tokens = _placed(tokens - tokens.mean((0, 1)), positions)
    return Problem(tokens, tokens.mean(1), labels, ridge_decoder(tokens, labels, ridge))


def digits_split(
    classes: tuple[int, int] = (3, 8), images: int = 200, positions: bool = False, ridge: float = 1.0
) -> tuple[Problem, Problem]:
    """`digits` for training, and all further images of the two classes as a test set.

    The split is that of the data set's own order, always the same. Mean patch and decoder are those of the training
    images, for the test set too.

    Args:
        classes: as for `digits`.
        images: number of training images, half of each class; the others, about 360 - images, are the test set.
        positions: as for `digits`.
        ridge: as for `digits`.

    Example:
        >>> import jaxsim
        >>> [part.shape for part in jaxsim.data.digits_split((3, 8), images=200)]
        [(200, 4, 16), (157, 4, 16)]
    """
    (tokens, labels), (others, test_labels) = _patches(classes, images)
    if len(np.unique(test_labels)) < 2:
        raise ValueError(f"images: expected some of both classes left for the test set; got {images} for training")
    mean = tokens.mean((0, 1))
    tokens, others = _placed(tokens - mean, positions), _placed(others - mean, positions)
    decoder = ridge_decoder(tokens, labels, ridge)
    return (
        Problem(tokens, tokens.mean(1), labels, decoder),
        Problem(others, others.mean(1), test_labels, decoder),
    )


def ridge_decoder(
    tokens: Float[np.ndarray, "n T d"], labels: Float[np.ndarray, " n"], ridge: float = 1.0, mask: Any = None
) -> Float[np.ndarray, " d"]:
    """The u of min_u Σ_i (y_i - uᵀ x̄_i)² + ridge·‖u‖², with x̄_i the mean of the (visible) tokens of sequence i."""
    positive_number("ridge", ridge)
    seen = np.ones(tokens.shape[:2]) if mask is None else np.asarray(mask, float)
    mean = (tokens * seen[:, :, None]).sum(1) / seen.sum(1)[:, None]
    return np.linalg.solve(mean.T @ mean + ridge * np.eye(mean.shape[1]), mean.T @ labels)


def _patches(classes: tuple[int, int], images: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Patches (n, 4, 16) and labels of the first images // 2 of each class, and of all others."""
    if whole_number("images", images, at_least=2) % 2:
        raise ValueError(f"images: expected an even number, half of each class; got {images}")
    negative, positive = classes
    if negative == positive or not {negative, positive} <= set(range(10)):
        raise ValueError(f"classes: expected two different digits from 0 to 9; got {classes}")
    target, pictures = _bundle()
    members = [np.flatnonzero(target == digit) for digit in (negative, positive)]
    for digit, own in zip(classes, members, strict=True):
        if len(own) < images // 2:
            raise ValueError(f"images: the data set has {len(own)} images of a {digit}; got {images} // 2")
    parts = []
    for part in (slice(images // 2), slice(images // 2, None)):
        chosen = [own[part] for own in members]
        pixels = pictures[np.concatenate(chosen)] / PIXEL_MAX
        tokens = pixels.reshape(-1, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 16)
        parts.append((tokens, np.repeat([-1.0, 1.0], [len(own) for own in chosen])))
    return parts


@functools.cache
def _bundle() -> tuple[np.ndarray, np.ndarray]:
    """Labels and images of scikit-learn's `load_digits`, without the seconds that its import takes."""
    file = importlib.metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    if Path(str(file)).exists():
        rows = np.loadtxt(str(file), delimiter=",")
        return rows[:, -1].astype(int), rows[:, :-1].reshape(-1, 8, 8)
    from sklearn.datasets import load_digits

    bundle: Any = load_digits()
    return bundle["target"], bundle["images"]


def _placed(tokens: np.ndarray, positions: bool) -> np.ndarray:
    """The tokens, with their one-hot positions appended if asked for."""
    if not positions:
        return tokens
    return np.concatenate([tokens, np.broadcast_to(np.eye(4), (len(tokens), 4, 4))], axis=-1)

"""Real images as token sequences: scikit-learn's bundled handwritten digits."""

from typing import Any

import numpy as np

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
    from sklearn.datasets import load_digits

    if whole_number("images", images, at_least=2) % 2:
        raise ValueError(f"images: expected an even number, half of each class; got {images}")
    positive_number("ridge", ridge)
    negative, positive = classes
    if negative == positive or not {negative, positive} <= set(range(10)):
        raise ValueError(f"classes: expected two different digits from 0 to 9; got {classes}")
    bundle: Any = load_digits()
    chosen = []
    for digit in (negative, positive):
        members = np.flatnonzero(bundle["target"] == digit)
        if len(members) < images // 2:
            raise ValueError(f"images: the data set has {len(members)} images of a {digit}; got {images} // 2")
        chosen.append(members[: images // 2])
    pixels = bundle["images"][np.concatenate(chosen)] / PIXEL_MAX
    tokens = pixels.reshape(images, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(images, 4, 16)
    tokens = tokens - tokens.mean((0, 1))
    if positions:
        place = np.broadcast_to(np.eye(4), (images, 4, 4))
        tokens = np.concatenate([tokens, place], axis=-1)
    mean = tokens.mean(1)
    labels = np.repeat([-1.0, 1.0], images // 2)
    decoder = np.linalg.solve(mean.T @ mean + ridge * np.eye(mean.shape[1]), mean.T @ labels)
    return Problem(tokens, mean, labels, decoder)

"""Sums of products that are right to the last digit or two, however much of them cancels."""

import numpy as np
from jaxtyping import Float

_SPLIT = 2.0**27 + 1  # Veltkamp's, for numbers of 53 digits


def dot_of_differences(
    u: Float[np.ndarray, " d"], a: Float[np.ndarray, "... d"], b: Float[np.ndarray, "... #d"]
) -> Float[np.ndarray, "..."]:
    """Σ_k u_k (a_k - b_k), computed as if in twice the precision and rounded once.

    Differences and products are split into a rounded part and its exact error, and the parts are summed likewise.

    Reference:
        Ogita, Rump, Oishi 2005, "Accurate sum and dot product": two-sum (Knuth), two-product (Dekker, Veltkamp).

    Example:
        >>> a, b = np.array([1e16 + 2, 3e-5]), np.array([1e16, 1e-5])
        >>> float(dot_of_differences(np.array([1.0, 1e5]), a, b))
        4.0
    """
    high, low = _two_sum(a, -b)
    product, error = _two_product(np.broadcast_to(u, high.shape), high)
    error = error + u * low
    total = np.zeros(high.shape[:-1])
    rest = np.zeros(high.shape[:-1])
    for k in range(high.shape[-1]):
        total, lost = _two_sum(total, product[..., k])
        rest = rest + (lost + error[..., k])
    return np.asarray(total + rest)


def _two_sum(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total = x + y
    back = total - x
    return total, (x - (total - back)) + (y - back)


def _two_product(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    product = x * y
    (x1, x2), (y1, y2) = _halves(x), _halves(y)
    return product, x2 * y2 - (((product - x1 * y1) - x2 * y1) - x1 * y2)


def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    big = _SPLIT * x
    high = big - (big - x)
    return high, x - high

"""How long a step of gradient descent may be at the starts of a plane before it is unstable at the sharpest of them."""

import numpy as np

from jaxsim.analysis import log10_sharpness
from jaxsim.basins.pixels import WINDOW, Pixels
from jaxsim.basins.planes import Plane
from jaxsim.model import Loss, named
from jaxsim.problem import Problem

RESOLUTION = (64, 64)


def stable_step(
    problem: Problem,
    plane: Plane,
    *,
    window: tuple[float, float, float, float] = WINDOW,
    resolution: tuple[int, int] = RESOLUTION,
    loss: str | Loss = "logistic",
) -> float:
    """The edge of stability of a window of starts: 2/λ, with λ the largest curvature of the loss at any of its pixels.

    Gradient descent with a longer step is unstable at the sharpest of the starts; with a shorter one it is stable at
    all of them, as far as the pixels tell. What curvature does later on `Run.sharpness` says.

    Args:
        problem: the data.
        plane: the plane of starts.
        window: first and last a, first and last b.
        resolution: pixels along a and along b.
        loss: ℓ.

    Raises:
        ValueError: where the loss curves upwards at none of the pixels.

    Reference:
        Cohen, Kaur, Li, Kolter, Talwalkar 2021, arXiv 2103.00065, call 2/η the edge of stability.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
        >>> plane = jaxsim.basins.random_plane(problem, jax.random.key(1))
        >>> 10 < jaxsim.basins.stable_step(problem, plane, window=(-2, 2, -2, 2)) < 100
        True
    """
    pixels = Pixels(plane, window, resolution)
    pixels.check(1, problem.W_shape)
    span = pixels.span(np.arange(len(pixels.a) * len(pixels.b)))
    parts = np.einsum("itd,kde,ie->kit", problem.keys, span.matrices, problem.queries)
    curvature = log10_sharpness(problem, np.tensordot(span.weights, parts, 1), named(loss)).max()
    if not np.isfinite(curvature):
        raise ValueError("window: expected a start at which the loss curves upwards; it does so at none of the pixels")
    return float(2 / 10**curvature)

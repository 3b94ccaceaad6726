"""The window of a plane as a grid of starts: one lane per pixel."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxsim._check import finite_array, whole_number
from jaxsim.basins.planes import Plane, limits_plane, random_plane
from jaxsim.init import Span
from jaxsim.problem import Problem

MOST = 1000  # pixels on a side
LARGEST = 1e150  # of a coordinate: its square stays a number
WINDOW = (-10.0, 10.0, -10.0, 10.0)
RESOLUTION = (256, 256)


@dataclasses.dataclass(frozen=True, eq=False)
class Pixels:
    """Starts W_0 = origin + a A + b B on a grid over a window, whose edges have pixels too; a law for `simulate`.

    Lane i is the pixel in column i mod nx, where a lies, of row i div nx, where b lies.

    Args:
        plane: the plane.
        window: first and last a, first and last b, in units of the Frobenius norm.
        resolution: nx pixels along a and ny along b, from 2 to 1000 each.

    Raises:
        ValueError: where the window has no size or the resolution is out of range.

    Example:
        >>> import numpy as np
        >>> from jaxsim.basins import plane
        >>> Pixels(plane(np.eye(2), np.ones((2, 2))), (0, 4, 0, 1), (5, 3)).a.tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]
    """

    plane: Plane
    window: tuple[float, float, float, float] = WINDOW
    resolution: tuple[int, int] = RESOLUTION

    def __post_init__(self):
        if not isinstance(self.plane, Plane):
            raise ValueError(f"plane: expected a jaxsim.basins.Plane; got {self.plane!r}")
        window, resolution = check_grid(self.window, self.resolution)
        object.__setattr__(self, "window", window)
        object.__setattr__(self, "resolution", resolution)

    def __repr__(self):
        nx, ny = self.resolution
        return f"Pixels({nx} × {ny}, window={self.window})"

    @functools.cached_property
    def a(self) -> Float[np.ndarray, " nx"]:
        """Where the columns lie."""
        return np.linspace(*self.window[:2], self.resolution[0])

    @functools.cached_property
    def b(self) -> Float[np.ndarray, " ny"]:
        """Where the rows lie."""
        return np.linspace(*self.window[2:], self.resolution[1])

    def span(self, index: Int[np.ndarray, " k"]) -> Span:
        """The starts of the pixels with these numbers."""
        rows, columns = np.divmod(index, self.resolution[0])
        weights = np.stack([np.ones(len(index)), self.a[columns], self.b[rows]], axis=1)
        return Span(np.stack([self.plane.origin, *self.plane.axes]), weights)

    def check(self, lanes: int, weights: tuple[int, int]) -> None:
        """See `jaxsim.init.Fixed`."""
        if self.plane.origin.shape != weights:
            raise ValueError(f"plane: expected matrices {weights}, as W of the problem; got {self.plane.origin.shape}")
        nx, ny = self.resolution
        if lanes > nx * ny:
            raise ValueError(f"lanes: expected at most one per pixel, {nx} × {ny} = {nx * ny:,}; got {lanes:,}")

    def at(self, lanes, frame):
        """See `jaxsim.init.Fixed`."""
        return self.span(lanes).at(np.arange(len(lanes)), frame)

    def beyond(self, frame):
        """See `jaxsim.init.Fixed`."""
        nx, ny = self.resolution
        return self.span(np.arange(nx * ny)).beyond(frame)


def check_grid(window: Any, resolution: Any) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """Window and resolution as plain numbers.

    Raises:
        ValueError: where the window has no size or the resolution is out of range.
    """
    edges = finite_array("window", window, (4,), "(a first, a last, b first, b last)")
    if not (edges[0] < edges[1] and edges[2] < edges[3]):
        raise ValueError(f"window: expected a first < a last and b first < b last; got {tuple(edges.tolist())}")
    if np.abs(edges).max() > LARGEST:
        raise ValueError(f"window: expected numbers up to {LARGEST:g}; got {tuple(edges.tolist())}")
    if not isinstance(resolution, tuple | list) or len(resolution) != 2:
        raise ValueError(f"resolution: expected pixels along a and along b, such as (256, 256); got {resolution!r}")
    nx, ny = (whole_number("resolution", side, at_least=2) for side in resolution)
    if max(nx, ny) > MOST:
        raise ValueError(f"resolution: expected at most {MOST} × {MOST} pixels; got {nx} × {ny}")
    a, b, c, d = edges.tolist()
    return (a, b, c, d), (nx, ny)


def random_pixels(
    problem: Problem,
    key: jax.Array,
    window: tuple[float, float, float, float] = WINDOW,
    resolution: tuple[int, int] = RESOLUTION,
) -> Pixels:
    """The pixels of `random_plane`."""
    return Pixels(random_plane(problem, key), window, resolution)


def limits_pixels(
    problem: Problem,
    selection: Sequence[int],
    window: tuple[float, float, float, float] = WINDOW,
    resolution: tuple[int, int] = RESOLUTION,
) -> Pixels:
    """The pixels of `limits_plane`."""
    return Pixels(limits_plane(problem, selection), window, resolution)

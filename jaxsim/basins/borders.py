"""How basins meet: entropy, uncertainty exponent and intermingledness of a map of labels.

Everything here works on an integer array of labels, one per pixel, whatever made it.
"""

import dataclasses
from typing import Any

import numpy as np
import scipy.ndimage
from jaxtyping import Float, Int

from jaxsim._check import open_share, whole_number

NEEDED = 30  # uncertain pixels behind every point of a fit
BLOCKS = 8  # per side, resampled for intervals
FEWEST = 6  # blocks that must share the border


@dataclasses.dataclass(frozen=True)
class BasinEntropy:
    """What `basin_entropy` returns, in nats.

    Attributes:
        entropy: S_b, the mean over boxes of S = -Σ_j p_j log p_j, p_j the share of label j in the box.
        boundary_entropy: S_bb, the mean over the boxes with more than one label; NaN where there is none.
        boxes: number of boxes.
        boundary_boxes: number with more than one label.
        side: of a box, in pixels.
    """

    entropy: float
    boundary_entropy: float
    boxes: int
    boundary_boxes: int
    side: int

    @property
    def fractal(self) -> bool:
        """S_bb > log 2: sufficient for a fractal border if boxes are small and hold two labels at most elsewhere."""
        return self.boundary_entropy > np.log(2)


def basin_entropy(labels: Any, side: int = 5) -> BasinEntropy:
    """Basin entropy and boundary basin entropy of a map.

    Args:
        labels: one integer per pixel, shape (ny, nx).
        side: of the boxes, in pixels; rows and columns that fill no box are left out.

    Raises:
        ValueError: where the labels are no two-dimensional integers or no box fits.

    Reference:
        Daza, Wagemakers, Georgeot, Guéry-Odelin, Sanjuán, Scientific Reports 6, 31416 (2016).

    Example:
        >>> import numpy as np
        >>> found = basin_entropy(np.repeat([[0, 0, 1, 1]], 4, axis=0), side=4)
        >>> round(float(found.entropy / np.log(2)), 6)
        1.0
    """
    L = _checked(labels)
    s = whole_number("side", side, at_least=2)
    rows, columns = L.shape[0] // s, L.shape[1] // s
    if rows == 0 or columns == 0:
        raise ValueError(f"side: expected at most {min(L.shape)}, the smaller side of the map; got {s}")
    boxes = L[: rows * s, : columns * s].reshape(rows, s, columns, s).swapaxes(1, 2).reshape(rows * columns, s * s)
    _, ids = np.unique(boxes, return_inverse=True)
    ids = np.sort(ids.reshape(boxes.shape), axis=1)
    # Runs of equal labels in sorted boxes: their lengths are the counts.
    starts = np.concatenate([np.ones((len(ids), 1), bool), np.diff(ids, axis=1) > 0], axis=1)
    box, first = np.nonzero(starts)
    share = np.diff(np.append(box * s * s + first, ids.size)) / (s * s)
    each = np.bincount(box, -share * np.log(share), minlength=len(ids))
    boundary = starts.sum(1) > 1
    return BasinEntropy(
        float(each.mean()),
        float(each[boundary].mean()) if boundary.any() else np.nan,
        len(ids),
        int(boundary.sum()),
        s,
    )


@dataclasses.dataclass(frozen=True)
class UncertaintyExponent:
    """What `uncertainty_exponent` returns.

    Attributes:
        exponent: α of f(ε) ∝ ε^α, with an interval [low, high] of the given level, or NaN.
        dimension: of the border in the plane, 2 - α, with the interval mirrored.
        radii: ε in pixels, and `uncertain`, f(ε), at each.
        window: the smallest and largest ε of the fit.
    """

    exponent: float
    low: float
    high: float
    level: float
    radii: tuple[int, ...]
    uncertain: tuple[float, ...]
    window: tuple[int, int]

    @property
    def dimension(self) -> float:
        """2 - α."""
        return 2 - self.exponent


def uncertainty_exponent(
    labels: Any, window: tuple[int, int] | None = None, level: float = 0.95
) -> UncertaintyExponent:
    """The uncertainty exponent of a map: how the share of starts scales that an error ε may push over a border.

    f(ε) is the share of pixels, those near the margin left out, with another label at most ε rows or columns away; α is
    the slope of log f against log ε. A smooth border has α = 1; a fractal border of dimension D in the plane has
    α = 2 - D.

    Args:
        labels: one integer per pixel, shape (ny, nx).
        window: smallest and largest ε of the fit in pixels; by default from 2 to a thirtieth of the smaller side.
        level: of the interval, by a jackknife over 8 × 8 blocks of the map (Student's t). It is conservative: for
            lines, large ellipses and smooth random borders the true exponent 1 was inside 99 to 100% of the time. NaN
            where the border is shared by fewer than 6 blocks, (Σ u)² / Σ u² of their uncertain pixels u: for small
            discs, as wide as a few ε, it was inside 84% of the time.

    Returns:
        An `UncertaintyExponent`.

    Raises:
        ValueError: where the window holds fewer than three radii, or fewer than 30 pixels are uncertain at ε.

    Reference:
        Grebogi, McDonald, Ott, Yorke, Physics Letters A 99, 415 (1983); distances of pixels by rows or columns are a
        convention of this project.

    Example:
        >>> import numpy as np
        >>> straight = np.repeat((np.arange(300) > 140)[None].astype(int), 300, axis=0)
        >>> abs(uncertainty_exponent(straight).exponent - 1) < 1e-9
        True
    """
    import scipy.stats  # slow to import

    L = _checked(labels)
    low, high = window if window is not None else (2, max(2, min(L.shape) // 30))
    whole_number("window", low)
    open_share("level", level)
    radii = np.unique(np.rint(np.geomspace(low, max(high, low), 12)).astype(int))
    if len(radii) < 3:
        raise ValueError(
            f"window: expected a range of at least three radii in pixels; got {(low, high)}. Use a finer map"
        )
    if min(L.shape) - 2 * radii[-1] < BLOCKS:
        raise ValueError(
            f"window: expected a map of at least {2 * radii[-1] + BLOCKS} pixels a side for ε = {radii[-1]}; "
            f"got {min(L.shape)}"
        )
    margin = (slice(radii[-1], -radii[-1]),) * 2  # the same pixels at every radius, all with all their neighbours
    uncertain = np.stack([_uncertain(L, int(r))[margin] for r in radii])
    least = int(uncertain[0].sum())
    if least < NEEDED:
        raise ValueError(
            f"labels: expected at least {NEEDED} uncertain pixels at ε = {radii[0]}; got {least}. Use a finer "
            "map, or one that shows a longer border"
        )
    totals, pixels = _blocks(uncertain)
    x = np.log(radii)

    def slope(counts: np.ndarray, of: float) -> float:
        with np.errstate(divide="ignore"):
            return float(np.polyfit(x, np.log(counts / of), 1)[0]) if counts.all() else np.nan

    whole = slope(totals.sum(1), pixels.sum())
    left_out = np.array([slope(totals.sum(1) - totals[:, k], pixels.sum() - pixels[k]) for k in range(len(pixels))])
    k = len(left_out)
    error = np.sqrt((k - 1) / k * np.sum((left_out - left_out.mean()) ** 2))
    half = float(scipy.stats.t.ppf(0.5 + level / 2, k - 1) * error)
    if totals[0].sum() ** 2 < FEWEST * np.sum(totals[0].astype(float) ** 2):
        half = np.nan
    shares = tuple(float(v) for v in totals.sum(1) / pixels.sum())
    return UncertaintyExponent(
        whole, whole - half, whole + half, level, tuple(int(r) for r in radii), shares, (int(radii[0]), int(radii[-1]))
    )


def intermingledness(
    labels: Any, radii: tuple[int, ...] = (1, 2, 4, 8)
) -> tuple[np.ndarray, Float[np.ndarray, "R U U"]]:
    """Where a step of length ε from a random pixel of one basin lands: P(label j at distance ε | label i).

    Steps go up, down, left and right. Between basins with smooth borders the entries off the diagonal fall in
    proportion to ε; between intermingled basins they stay.

    Args:
        labels: one integer per pixel, shape (ny, nx).
        radii: ε in pixels, each less than half the map.

    Returns:
        The labels in ascending order, (U,), and the matrices, (R, U, U); rows sum to one.

    Reference:
        Convention of this project.

    Example:
        >>> import numpy as np
        >>> _, P = intermingledness(np.repeat([[0, 0, 1, 1]], 4, axis=0), radii=(1,))
        >>> P[0].round(3).tolist()
        [[0.833, 0.167], [0.167, 0.833]]
    """
    L = _checked(labels)
    names, ids = np.unique(L, return_inverse=True)
    ids = ids.reshape(L.shape)
    U = len(names)
    matrices = []
    for radius in radii:
        if 2 * whole_number("radii", radius) >= min(L.shape):
            raise ValueError(
                f"radii: expected less than half of {min(L.shape)}, the smaller side of the map; got {radius}"
            )
        pairs = np.concatenate([
            (ids[radius:] * U + ids[:-radius]).ravel(),
            (ids[:-radius] * U + ids[radius:]).ravel(),
            (ids[:, radius:] * U + ids[:, :-radius]).ravel(),
            (ids[:, :-radius] * U + ids[:, radius:]).ravel(),
        ])  # fmt: skip
        counts = np.bincount(pairs, minlength=U * U).reshape(U, U)
        matrices.append(counts / counts.sum(1, keepdims=True))
    return names, np.stack(matrices)


def _checked(labels: Any) -> Int[np.ndarray, "ny nx"]:
    L = np.asarray(labels)
    if L.ndim != 2 or not (np.issubdtype(L.dtype, np.integer) or L.dtype == bool):
        raise ValueError(f"labels: expected integers of shape (ny, nx); got {L.dtype} of shape {L.shape}")
    return L


def _uncertain(L: np.ndarray, radius: int) -> np.ndarray:
    """Pixels with another label at most `radius` rows or columns away."""
    size = 2 * radius + 1
    uncertain = np.zeros(L.shape, bool)
    for axis in (0, 1):
        low = scipy.ndimage.minimum_filter1d(L, size, axis=axis)
        uncertain |= low != scipy.ndimage.maximum_filter1d(L, size, axis=axis)
    return uncertain


def _blocks(uncertain: Any) -> tuple[np.ndarray, np.ndarray]:
    """Uncertain pixels by radius and block, and pixels by block."""
    rows = np.array_split(np.arange(uncertain.shape[1]), BLOCKS)
    columns = np.array_split(np.arange(uncertain.shape[2]), BLOCKS)
    totals, pixels = [], []
    for r in rows:
        for c in columns:
            part = uncertain[:, r[0] : r[-1] + 1, c[0] : c[-1] + 1]
            totals.append(part.sum((1, 2)))
            pixels.append(part[0].size)
    return np.stack(totals, axis=1), np.array(pixels)

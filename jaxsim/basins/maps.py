"""Basin maps: the verdict on every pixel of a plane through initialisation space."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Real

from jaxsim._check import whole_number
from jaxsim.analysis import VERDICTS, Limits, Thresholds
from jaxsim.analysis.verdict import codes, is_settled
from jaxsim.basins.pixels import RESOLUTION, WINDOW, Pixels, check_grid
from jaxsim.basins.planes import Plane
from jaxsim.driver import LARGEST_STEP
from jaxsim.model import Loss
from jaxsim.problem import Problem
from jaxsim.results import STARTS
from jaxsim.results.saved import Saved
from jaxsim.rules import Rule
from jaxsim.simulation import Options
from jaxsim.simulation.options import CHUNK_BYTES
from jaxsim.simulation.work import prepare

PIXEL_BYTES = 160  # weights, labels and their copies while a map is computed
MEMORY = 2**30


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BasinMap(Saved):
    """What `basin_map` returns. Rows run along b, columns along a; U distinct selections.

    Attributes:
        problem: the data.
        settings: how the pixels were made.
        a, b: coordinates of the columns and of the rows, (nx,) and (ny,), in units of the Frobenius norm.
        origin, axes, directions, names: of the plane; see `Plane`.
        verdict: index into `jaxsim.analysis.VERDICTS`, (ny, nx).
        selection_number: which row of `selections`, (ny, nx).
        time: the first recorded step from which attention stays saturated, (ny, nx); -1 where it does not. Of a pixel
            that was filled in it is that of a pixel nearby.
        computed: whether the pixel was run, or filled in from neighbours that agree, (ny, nx).
        selections: the distinct final selections, (U, n), with `limit_norm` and `locally_optimal`.
    """

    kind: ClassVar[str] = "basin map"

    problem: Problem
    settings: dict[str, Any]
    a: Float[np.ndarray, " nx"]
    b: Float[np.ndarray, " ny"]
    origin: Float[np.ndarray, "d e"]
    axes: Float[np.ndarray, "2 d e"]
    directions: Float[np.ndarray, "2 2"]
    names: tuple[str, str]
    verdict: Int[np.ndarray, "ny nx"]
    selection_number: Int[np.ndarray, "ny nx"]
    time: Real[np.ndarray, "ny nx"]
    computed: Bool[np.ndarray, "ny nx"]
    selections: Int[np.ndarray, "U n"]
    limit_norm: Float[np.ndarray, " U"]
    locally_optimal: Bool[np.ndarray, " U"]

    def __repr__(self):
        ends = ", ".join(f"{name} {share:.1%}" for name, share in self.shares().items() if share)
        return f"BasinMap({self.settings['rule']}, {len(self.b)} × {len(self.a)} pixels: {ends})"

    @property
    def window(self) -> tuple[float, float, float, float]:
        """The first and last a, the first and last b."""
        return float(self.a[0]), float(self.a[-1]), float(self.b[0]), float(self.b[-1])

    @property
    def labels(self) -> Int[np.ndarray, "ny nx"]:
        """One number per basin: the selection's where the pixel ended global or local, else minus its verdict."""
        return np.where(is_settled(self.verdict), self.selection_number, -self.verdict.astype(int))

    def shares(self) -> dict[str, float]:
        """The share of the window's area with each verdict. It is no probability under any law."""
        return {name: float(np.mean(self.verdict == k)) for k, name in enumerate(VERDICTS)}


def basin_map(
    problem: Problem,
    rule: Rule,
    plane: Plane,
    *,
    window: tuple[float, float, float, float] = WINDOW,
    resolution: tuple[int, int] = RESOLUTION,
    steps: int = 2000,
    refine: int = 0,
    memory: int = MEMORY,
    record: Sequence[int] | None = None,
    loss: Literal["logistic", "exponential", "linear", "negative-log"] | Loss = "logistic",
    dtype: Any = None,
    thresholds: Thresholds | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BasinMap:
    """Run every pixel of a plane and say where it went.

    Args:
        problem: the data.
        rule: a step-size rule.
        plane: the plane of starts (`jaxsim.basins.plane`, `limits_plane`, `random_plane`).
        window: first and last a, first and last b; pixels lie on the edges too.
        resolution: pixels along a and along b, from 2 to 1000 each.
        steps: the horizon.
        refine: 0 runs every pixel. k > 0 runs every 2^k-th row and column first, and then halves the spacing k
            times, running a pixel only where the pixels around it disagree; the others are filled in. A structure
            narrower than the first spacing can be missed.
        memory: bound in bytes on the arrays of the map.
        record: the recorded steps, at which the time to selection is read off.
        loss: ℓ.
        dtype: float32 or float64.
        thresholds: when a run counts as saturated.
        progress: called as progress(pixels run, pixels) after each chunk.

    Returns:
        A `BasinMap`.

    Raises:
        ValueError: where the window has no size, or the resolution does not fit `memory` (the message says what does).

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
        >>> plane = jaxsim.basins.random_plane(problem, jax.random.key(1))
        >>> jaxsim.basins.basin_map(problem, jaxsim.rules.NGD(0.1), plane, resolution=(8, 4), steps=500).verdict.shape
        (4, 8)
    """
    began = time.perf_counter()
    pixels = Pixels(plane, window, resolution)
    pixels.check(1, problem.W_shape)
    levels = check_map(window, resolution, refine, memory)
    shape = (len(pixels.b), len(pixels.a))
    options = Options(
        steps, record, loss, dtype, thresholds=thresholds, limits="saturated",
        chunk_bytes=min(CHUNK_BYTES, memory // 4),
    )  # fmt: skip
    found = _Canvas(shape, options.recorded[-1])
    limits: Limits | None = None
    settings: dict[str, Any] = {}
    for spacing in (2**k for k in range(levels, -1, -1)):
        todo = found.fill(spacing, first=spacing == 2**levels)
        if len(todo) == 0:
            continue
        work = prepare(
            problem, rule, pixels.span(todo), options, key=jax.random.key(0), lanes=len(todo), of=found.computed.size
        )
        limits = work.limits = limits or work.limits  # selections keep their numbers from level to level
        settings = {k: v for k, v in work.settings().items() if k not in STARTS}
        done = 0
        for part in work.parts():
            run = work.result(part)
            found.put(todo[done : done + run.lanes], codes(run.verdict), run.selection_number, run.settled_step)
            done += run.lanes
            if progress is not None:
                progress(int(found.computed.sum()), found.computed.size)
    assert limits is not None  # the first level has a pixel
    solutions = limits.solutions
    settings |= {"lanes": int(found.computed.sum()), "refine": levels, "seconds": time.perf_counter() - began}
    return BasinMap(
        problem, settings, pixels.a, pixels.b, plane.origin, plane.axes, plane.directions, plane.names,
        found.verdict, found.selection_number, found.time, found.computed,
        np.stack([mm.selection for mm in solutions]),
        np.array([mm.norm for mm in solutions]),
        np.array([mm.locally_optimal for mm in solutions]),
    )  # fmt: skip


def check_map(window: Any, resolution: Any, refine: Any, memory: Any) -> int:
    """The number of levels; ValueError where `basin_map` would refuse one of these arguments."""
    _, (nx, ny) = check_grid(window, resolution)
    _fits(nx, ny, whole_number("memory", memory))
    levels, most = whole_number("refine", refine, at_least=0), max(nx, ny)
    if 2 ** min(levels, 64) >= most:
        raise ValueError(f"refine: expected a first spacing 2^refine below {most} pixels; got {levels}")
    return levels


def _fits(nx: int, ny: int, memory: int) -> None:
    """Refuse a resolution too large for the memory."""
    side = int((memory / PIXEL_BYTES) ** 0.5)
    if nx * ny > side**2:
        needed = nx * ny * PIXEL_BYTES / 2**20
        raise ValueError(
            f"resolution: {nx} × {ny} pixels need {needed:.0f} MiB; in memory = {memory / 2**20:.0f} MiB "
            f"fit {side} × {side}. Lower the resolution or raise memory."
        )


class _Canvas:
    """The arrays of a map while it is computed."""

    def __init__(self, shape: tuple[int, int], horizon: float):
        self.verdict = np.full(shape, -1, np.int8)
        self.selection_number = np.full(shape, -1, np.int32)
        self.time = np.full(shape, -1, np.int32 if horizon <= LARGEST_STEP else np.float64)
        self.computed = np.zeros(shape, bool)

    def put(self, where: np.ndarray, verdict: np.ndarray, number: np.ndarray, settled: np.ndarray) -> None:
        """Enter the results of some pixels."""
        self.verdict.flat[where] = verdict
        self.selection_number.flat[where] = number
        self.time.flat[where] = settled
        self.computed.flat[where] = True

    def fill(self, spacing: int, first: bool) -> Int[np.ndarray, " k"]:
        """Fill in what the pixels of the last, wider spacing agree on; the others of this spacing are still to run."""
        ny, nx = self.verdict.shape
        y, x = (v.ravel() for v in np.mgrid[0:ny:spacing, 0:nx:spacing])
        new = self.verdict[y, x] < 0
        y, x = y[new], x[new]
        if first:
            return y * nx + x
        wide = 2 * spacing
        # The sixteen wide pixels around: agreement of the nearest four alone would cut corners off.
        corners = []
        for j in range(-1, 3):
            for i in range(-1, 3):
                row, column = y // wide * wide + j * wide, x // wide * wide + i * wide
                corners.append((np.clip(row, 0, (ny - 1) // wide * wide), np.clip(column, 0, (nx - 1) // wide * wide)))
        same = np.ones(len(y), bool)
        for row, column in corners:
            same &= self.verdict[row, column] == self.verdict[corners[5]]
            same &= self.selection_number[row, column] == self.selection_number[corners[5]]
        same &= (y // wide * wide + wide < ny) & (x // wide * wide + wide < nx)  # else there is no pixel beyond
        for name in ("verdict", "selection_number", "time"):
            array = getattr(self, name)
            array[y[same], x[same]] = array[corners[5]][same]
        return (y * nx + x)[~same]

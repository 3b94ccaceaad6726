"""Planes through initialisation space."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxsim._check import finite_array
from jaxsim.data.synthetic import generator
from jaxsim.margin import MarginSolver
from jaxsim.problem import Problem

PARALLEL = 1e-8  # sine of the angle below which two directions span no plane


@dataclasses.dataclass(frozen=True, eq=False)
class Plane:
    """The starts W_0(a, b) = origin + a A + b B, with A and B orthonormal: distances in the plane are Frobenius norms.

    Attributes:
        origin: shape (d, e).
        axes: A and B, shape (2, d, e).
        names: of the two directions that the plane was made of.
        directions: unit directions of the two in the plane, as (a, b), shape (2, 2); the first is (1, 0).
    """

    origin: Float[np.ndarray, "d e"]
    axes: Float[np.ndarray, "2 d e"]
    names: tuple[str, str]
    directions: Float[np.ndarray, "2 2"]


def plane(first: Any, second: Any, origin: Any = None, names: tuple[str, str] = ("first", "second")) -> Plane:
    """The plane through `origin` spanned by two directions.

    Args:
        first: a matrix (d, e), not zero; the horizontal axis points along it.
        second: another, not parallel to it; the vertical axis is its part orthogonal to the first.
        origin: the point (a, b) = (0, 0); the zero matrix by default.
        names: what to call the directions in figures.

    Raises:
        ValueError: where shapes differ, a direction is zero or the two are parallel.

    Example:
        >>> import numpy as np
        >>> plane([[1.0, 0.0]], [[1.0, 1.0]]).axes[1].round(6).tolist()
        [[0.0, 1.0]]
    """
    A = finite_array("first", first, (None, None), "(d, e)")
    B = finite_array("second", second, A.shape, "(d, e)")
    centre = finite_array("origin", np.zeros(A.shape) if origin is None else origin, A.shape, "(d, e)")
    for name, direction in (("first", A), ("second", B)):
        if not direction.any():
            raise ValueError(f"{name}: expected a direction; got the zero matrix")
    A, B = (M / np.abs(M).max() for M in (A, B))  # squares of very small or large entries would leave the range
    A, B = A / np.linalg.norm(A), B / np.linalg.norm(B)
    along = float(np.sum(A * B))
    rest = B - along * A
    sine = float(np.linalg.norm(rest))
    if sine < PARALLEL:
        raise ValueError(f"second: expected a direction that is not parallel to the first; the sine is {sine:.1e}")
    return Plane(centre, np.stack([A, rest / sine]), names, np.array([[1.0, 0.0], [along, sine]]))


def limits_plane(problem: Problem, selection: Any) -> Plane:
    """The plane of W_mm and of W^α, the global limit and another one, through zero.

    Args:
        problem: the data.
        selection: α, shape (n,).

    Raises:
        ValueError: where one of the two does not exist, or α is the optimal selection.
    """
    solver = MarginSolver(problem)
    if np.array_equal(selection, problem.optimal):
        raise ValueError("selection: expected another selection than the optimal one, whose limit is W_mm")
    limits = solver.solve(problem.optimal), solver.solve(selection)
    for name, mm in zip(("the optimal selection", "selection"), limits, strict=True):
        if not np.isfinite(mm.norm):
            raise ValueError(f"selection: expected selections that some W separates; {name} is {mm.status}")
    return plane(limits[0].W, limits[1].W, names=("W_mm", "W^α"))


def random_plane(problem: Problem, key: jax.Array) -> Plane:
    """A plane through zero whose directions have independent normal entries."""
    return plane(*generator(key).standard_normal((2, *problem.W_shape)), names=("random", "random"))

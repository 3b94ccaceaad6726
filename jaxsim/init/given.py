"""Starts given as arrays: whole matrices, combinations of a few, reduced coordinates, or factors."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from jaxsim._check import finite_array
from jaxsim.coordinates import Frame


@runtime_checkable
class Fixed(Protocol):
    """Starts that are known before the run, lane by lane."""

    def check(self, lanes: int, weights: tuple[int, int]) -> None:
        """Refuse another number of lanes, or weights of another shape."""
        ...

    def at(self, lanes: Int[np.ndarray, " k"], frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ξ_0, start vectors and ‖W_0 outside‖² of the lanes with these indices."""
        ...

    def beyond(self, frame: Frame) -> dict[str, np.ndarray]:
        """The part of the starts outside the span, which never moves, as far as it is known.

        "given": one matrix for all lanes or one per lane; with "given_weights", (lanes, k): k matrices to be combined.
        """
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """Starts given as arrays.

    Args:
        W0: one matrix (d, e) for every lane, or one per lane (lanes, d, e); finite. In self-attention e = d.
    """

    W0: Any

    def __post_init__(self):
        object.__setattr__(self, "W0", _matrices("W0", self.W0, "(d, e) or (lanes, d, e)"))

    def __repr__(self):
        return f"Given{self.W0.shape}"

    def check(self, lanes, weights):
        """See Fixed."""
        if self.W0.shape[-2:] != weights:
            raise ValueError(f"W0: expected matrices {weights}; got {self.W0.shape[-2:]}")
        if self.W0.ndim == 3 and len(self.W0) != lanes:
            raise ValueError(f"W0: expected one matrix per lane, {lanes}; got {len(self.W0)}")

    def at(self, lanes, frame):
        """See Fixed."""
        shared = self.W0.ndim == 2
        return frame.project(np.broadcast_to(self.W0, (len(lanes), *self.W0.shape)) if shared else self.W0[lanes])

    def beyond(self, frame):
        """See Fixed."""
        return {"given": _outside(self.W0 if self.W0.ndim == 3 else self.W0[None], frame)}


@dataclasses.dataclass(frozen=True, eq=False)
class Span:
    """Starts that combine a few matrices: W_0 = Σ_k weights_k M_k, without ever forming them lane by lane.

    Args:
        matrices: M, shape (k, d, e).
        weights: shape (lanes, k).

    Example:
        >>> import numpy as np, jaxsim
        >>> jaxsim.init.Span(np.eye(3)[None], [[1.0], [2.0]])
        Span(lanes=2, matrices=1)
    """

    matrices: Any
    weights: Any

    def __post_init__(self):
        M = finite_array("matrices", self.matrices, (None, None, None), "(k, d, e)")
        object.__setattr__(self, "matrices", M)
        w = finite_array("weights", self.weights, (None, len(M)), f"(lanes, k) with k = {len(M)}")
        object.__setattr__(self, "weights", w)

    def __repr__(self):
        return f"Span(lanes={len(self.weights)}, matrices={len(self.matrices)})"

    def check(self, lanes, weights):
        """See Fixed."""
        if self.matrices.shape[1:] != weights:
            raise ValueError(f"matrices: expected matrices {weights}; got {self.matrices.shape[1:]}")
        if len(self.weights) != lanes:
            raise ValueError(f"weights: expected one row per lane, {lanes}; got {len(self.weights)}")

    def at(self, lanes, frame):
        """See Fixed."""
        xi, start, _ = frame.project(self.matrices)
        beyond = _outside(self.matrices, frame).reshape(len(xi), -1)
        gram = beyond @ beyond.T if frame.rank < frame.ambient else np.zeros((len(xi), len(xi)))
        weights = self.weights[lanes]
        outside = np.maximum(np.einsum("lj,jk,lk->l", weights, gram, weights), 0.0)
        # Term by term: a product of matrices rounds differently for another number of rows.
        combined = [
            np.sum([w[:, None] * row for w, row in zip(weights.T, rows, strict=True)], 0) for rows in (xi, start)
        ]
        return *combined, outside

    def beyond(self, frame):
        """See Fixed."""
        return {"given": _outside(self.matrices, frame), "given_weights": self.weights}


@dataclasses.dataclass(frozen=True, eq=False)
class Reduced:
    """Starts in the reduced coordinates of a problem, such as `Run.start` or `Run.position` hold.

    Args:
        xi: ξ_0, shape (lanes, size), in the coordinates that the run uses (`Run.settings["coordinates"]`).
        outside: ‖W_0 outside the span‖², shape (lanes,); 0 by default. It never moves and never matters to logits.

    Example:
        >>> import numpy as np, jaxsim
        >>> jaxsim.init.Reduced(np.zeros((5, 12)))
        Reduced(lanes=5, size=12)
    """

    xi: Any
    outside: Any = None

    def __post_init__(self):
        xi = finite_array("xi", self.xi, (None, None), "(lanes, size)")
        object.__setattr__(self, "xi", xi)
        rest = np.zeros(len(xi)) if self.outside is None else self.outside
        rest = finite_array("outside", rest, (len(xi),), f"(lanes,) = ({len(xi)},)")
        if (rest < 0).any():
            raise ValueError(f"outside: expected squared norms, at least 0; got {rest.min()}")
        object.__setattr__(self, "outside", rest)

    def __repr__(self):
        return f"Reduced(lanes={len(self.xi)}, size={self.xi.shape[1]})"

    def check(self, lanes, weights):
        """See Fixed."""
        if len(self.xi) != lanes:
            raise ValueError(f"xi: expected one row per lane, {lanes}; got {len(self.xi)}")

    def at(self, lanes, frame):
        """See Fixed."""
        if self.xi.shape[1] != frame.size:
            raise ValueError(
                f"xi: expected {frame.size} numbers per lane, as the {frame.kind} coordinates of the problem have; "
                f"got {self.xi.shape[1]}"
            )
        xi = self.xi[lanes]
        return xi, frame.begin(xi), self.outside[lanes]

    def beyond(self, frame):
        """See Fixed; only norms are known."""
        return {}


@dataclasses.dataclass(frozen=True, eq=False)
class Factors:
    """Starts of K and Q given as arrays, for key-query training.

    Args:
        K0: one matrix (d, m) for every lane, or one per lane (lanes, d, m); finite.
        Q0: likewise (e, m) or (lanes, e, m).
    """

    K0: Any
    Q0: Any

    def __post_init__(self):
        for name in ("K0", "Q0"):
            object.__setattr__(self, name, _matrices(name, getattr(self, name), "([lanes,] d, m)"))

    def __repr__(self):
        return f"Factors(K0={self.K0.shape}, Q0={self.Q0.shape})"

    def matrices(self, name: str, lanes: np.ndarray, total: int, shape: tuple[int, int]) -> np.ndarray:
        """K0 or Q0 of the lanes with these indices, out of `total`."""
        value = getattr(self, name)
        if value.shape[-2:] != shape:
            raise ValueError(f"{name}: expected matrices {shape}; got {value.shape[-2:]}")
        if value.ndim == 2:
            return np.broadcast_to(value, (len(lanes), *shape))
        if len(value) != total:
            raise ValueError(f"{name}: expected one matrix per lane, {total}; got {len(value)}")
        return value[lanes]


def _matrices(name: str, value: Any, expected: str) -> np.ndarray:
    """One matrix, or one per lane."""
    try:
        axes = np.ndim(value)
    except ValueError:  # rows of unequal length
        axes = 2
    if axes not in (2, 3):
        wanted = f"shape {expected}" if name == "W0" else f"two or three axes, {expected}"
        raise ValueError(f"{name}: expected {wanted}; got shape {np.shape(value)}")
    return finite_array(name, value, (None,) * axes, expected)


def _outside(W: Float[np.ndarray, "k d e"], frame: Frame) -> Float[np.ndarray, "k d e"]:
    """What is left of matrices without their part in the span."""
    with np.errstate(over="ignore", invalid="ignore"):
        return W - np.stack([frame.lift(x) for x in frame.project(W)[0]])

"""Key-query training: W = K Qᵀ with both factors trained."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsim import _machine
from jaxsim._check import whole_number
from jaxsim.coordinates import PrimalFrame
from jaxsim.driver import Start
from jaxsim.init import Factors, Gaussian, draw_factors
from jaxsim.margin import max_margin
from jaxsim.model.key_query import key_query
from jaxsim.train.base import OneHead, each_once
from jaxsim.train.starts import Known


@dataclasses.dataclass(frozen=True)
class KeyQuery(OneHead):
    """K (d × m) and Q (e × m) are trained in place of W = K Qᵀ; the decoder of the problem is fixed.

    Starts are `jaxsim.init.Gaussian(scale)`, for independent N(0, scale²) entries of K and Q, or
    `jaxsim.init.Factors(K0, Q0)`. The direction errors of a `Run` are those of K Qᵀ to the Frobenius att-SVM of the
    lane's selection. `Run.more` adds per recorded step `nuclear_direction_error`, to the nuclear-norm att-SVM, and
    `effective_rank`, exp of the entropy of the normalised singular values (Roy and Vetterli 2007) of the part of W in
    the span of tokens and queries; and per lane the final `K` and `Q`.

    Args:
        width: m, the inner width of the head, at least 1.
        nuclear: whether to solve the nuclear-norm att-SVM of every selection (a semidefinite program each).

    Reference:
        The (K, Q)-parametrisation of arXiv 2308.16898.
    """

    width: int
    nuclear: bool = True

    name: ClassVar[str] = "key-query"
    coordinates: ClassVar[Literal["primal"] | None] = "primal"
    curves: ClassVar[Mapping[str, str]] = {
        "effective_rank": "effective rank",
        "nuclear_direction_error": "error, nuclear",
        "imbalance": "",
    }
    unsteady: ClassVar[str | None] = "K and Q turn about each other under steps that do not shrink"
    finals: ClassVar[Mapping[str, str]] = {"K": "lanes d m", "Q": "lanes e m", "nuclear_limit_norm": "lanes"}

    def __post_init__(self):
        whole_number("width", self.width)

    def check(self, problem, loss, init):
        """Starts are laws or arrays of K and Q."""
        if not isinstance(init, Gaussian | Factors):
            raise ValueError(f"init: expected jaxsim.init.Gaussian or jaxsim.init.Factors for K and Q; got {init!r}")
        n, T, _ = problem.shape
        numbers = (sum(problem.W_shape) + n * T) * self.width
        _machine.need("width", 8 * numbers, f"K, Q and their tokens, {numbers:,} numbers for each lane,")

    def model(self, problem, frame, loss, dtype):
        """Two blocks, K and Q."""
        return key_query(problem, frame, loss, dtype, self.width)

    def starts(self, how, init, problem, frame):
        """K_0 and Q_0 inside the spans, and what lies outside them."""
        bases = frame.bases
        sides = [basis.shape[0] for basis in bases]
        for k in range(how.plan.chunks):
            index = how.index(k).ravel()
            if isinstance(init, Factors):
                lanes = np.minimum(index, how.end - 1)  # those past the end are dropped afterwards
                pairs = zip(("K0", "Q0"), sides, strict=True)
                full = [init.matrices(name, lanes, how.end, (side, self.width)) for name, side in pairs]
            else:
                scale = jnp.asarray(init.scale, how.dtype)
                shape = (sides[0], sides[1], self.width)
                full = draw_factors(scale, how.key, jnp.asarray(index, jnp.uint32), shape, how.dtype)
            full = [np.asarray(value, np.float64) for value in full]
            inside = [np.swapaxes(basis, 0, 1) @ value for basis, value in zip(bases, full, strict=True)]
            beyond = [v - basis @ part for v, basis, part in zip(full, bases, inside, strict=True)]
            core = inside[1] @ inside[0].swapaxes(1, 2)
            yield Start(jnp.asarray(_flat(inside).astype(how.dtype)), Known(_flat([core]), _flat(beyond)))

    def numbers(self, problem, frame):
        """One image of every token."""
        return problem.labels.size * problem.shape[1] * self.width

    def locate(self, frame, known, position):
        """ξ of K Qᵀ, and what the parts of K and Q outside the spans add to ‖K Qᵀ‖²."""
        K, Q = _split(frame, position, self.width)
        core = Q @ K.swapaxes(-1, -2)
        (KK, A), (QQ, B) = _squares(frame, known, position, self.width)
        apart = (KK * B).sum((2, 3)) + (QQ * A).sum((2, 3)) + (A * B).sum((2, 3))
        return core.reshape(*core.shape[:2], -1), apart

    def columns(self, view):
        """Effective rank, nuclear direction error, and the final factors."""
        frame, position = view.frame, np.asarray(view.records.position, np.float64)
        K, Q = _split(frame, position, self.width)
        xi, apart = self.locate(frame, view.known, position)
        singular = np.linalg.svd(Q @ K.swapaxes(-1, -2), compute_uv=False)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = singular / singular.sum(-1, keepdims=True)
            entropy = -np.sum(np.where(share > 0, share * np.log(share), 0.0), -1)
        final_K, final_Q = whole_factors(frame, position[:, -1], view.known, self.width)
        (KK, A), (QQ, B) = _squares(frame, view.known, position, self.width)
        found = {
            "imbalance": np.linalg.norm(KK + A - QQ - B, axis=(2, 3)),
            "effective_rank": np.where(np.isnan(singular).any(-1), np.nan, np.exp(entropy)),
            "K": final_K,
            "Q": final_Q,
        }
        if self.nuclear:
            solved, inverse = each_once(
                view.selection, view.solved, lambda alpha: max_margin(view.problem, alpha, norm="nuclear")
            )
            units = np.stack([frame.project(mm.W[None])[0][0] / np.linalg.norm(mm.W) for mm in solved])
            norm = view.norm
            with np.errstate(invalid="ignore", divide="ignore"):
                error = xi / norm[..., None] - units[inverse][:, None]
                found["nuclear_direction_error"] = np.sqrt((error * error).sum(-1) + apart / norm**2)
            found["nuclear_limit_norm"] = np.array([mm.norm for mm in solved])[inverse]
        return found


def _split(frame: PrimalFrame, position: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """K (…, r_x, m) and Q (…, r_z, m) inside the spans."""
    r_x = frame.bases[0].shape[1]
    K, Q = np.split(position, [r_x * width], axis=-1)
    return K.reshape(*K.shape[:-1], r_x, width), Q.reshape(*Q.shape[:-1], -1, width)


def whole_factors(
    frame: PrimalFrame, position: Float[np.ndarray, "lanes ... p"], known: Known, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """K (lanes, …, d, m) and Q (lanes, …, e, m) from recorded positions and what lies outside the spans."""
    inside, beyond = _split(frame, position, width), _outside(frame, known.outside, width)
    every = position.ndim > 2
    K, Q = (
        basis @ part + (rest[:, None] * known.left(k)[:, None, None] if every else rest * known.left(k)[-1])
        for k, (basis, part, rest) in enumerate(zip(frame.bases, inside, beyond, strict=True))
    )
    return K, Q


def _squares(
    frame: PrimalFrame, known: Known, position: Float[np.ndarray, "lanes R p"], width: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """KᵀK and QᵀQ (lanes, R, m, m), each of the part inside the span and (lanes, R or 1, m, m) of that outside."""
    parts = zip(_split(frame, position, width), _outside(frame, known.outside, width), strict=True)
    return [
        (inside.swapaxes(-1, -2) @ inside, (rest.swapaxes(-1, -2) @ rest)[:, None] * known.left(k)[:, None, None] ** 2)
        for k, (inside, rest) in enumerate(parts)
    ]


def _outside(frame: PrimalFrame, outside: Float[np.ndarray, "lanes p"], width: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts of K (lanes, d, m) and Q (lanes, e, m) outside the spans."""
    d = frame.bases[0].shape[0]
    K, Q = np.split(outside, [d * width], axis=-1)
    return K.reshape(len(K), d, width), Q.reshape(len(Q), -1, width)


def _flat(parts: list[np.ndarray]) -> Float[np.ndarray, "lanes p"]:
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

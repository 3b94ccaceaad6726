r"""Several heads, whose outputs are added: W_1, …, W_H together, each with a fixed decoder of its own.

    f(X_i) = Σ_h u_hᵀ X_iᵀ softmax(X_i W_h z_i),   m_i = y_i f(X_i),   L = (1/n) Σ_i ℓ(m_i)

H heads are one head on a larger problem, whose sequence (h, i) has the tokens e_h ⊗ x_it of dimension H d, the query
z_i and the label y_i. Its matrix is W = [W_1; …; W_H], H d × e, and its decoder (u_1, …, u_H):

    (e_h ⊗ x_it)ᵀ W z_i = x_itᵀ W_h z_i,   ⟨(e_g ⊗ x) zᵀ, (e_h ⊗ x') z'ᵀ⟩ = δ_gh (x·x')(z·z')

so that its selections hold one for each head, its att-SVM is one for each head, ‖W‖² = Σ ‖W_h‖², and its infimum of the
loss has every head on its own best tokens. What is left of heads is that the sequences (·, i) share one loss.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from jaxsim import _machine
from jaxsim._basis import orthonormal_basis
from jaxsim._check import finite_array, whole_number
from jaxsim.coordinates import Frame
from jaxsim.model import attention, positive
from jaxsim.problem import Problem
from jaxsim.train.base import OfW


@dataclasses.dataclass(frozen=True, eq=False)
class Heads(OfW):
    """The matrices W_1, …, W_H of several heads are trained together; their outputs are added, their decoders fixed.

    f(X_i) = Σ_h u_hᵀ X_iᵀ softmax(X_i W_h z_i). A result is that of one head on the sequences of all heads, those of
    head 1 first: `Run.problem` has H n sequences of dimension H d, and W = [W_1; …; W_H] is H d × e. The law of W_0 is
    that of the whole W, so that entries of `Gaussian` starts are independent, and `Sphere` is one sphere for all heads;
    starts as arrays have the shape (H d, e). A rule sees one gradient: normalised rules divide the gradients of all
    heads by one norm. A verdict is on all heads, global where each is on its own best tokens.

    The selections of the heads are `Run.selection.reshape(lanes, H, n)`. `Run.more` adds, per lane and recorded step,
    `distinct_heads`, how many different selections the heads have (see `jaxsim.analysis.specialisation`); and per lane
    at the end `head_norm`, of the part of W_h in the span of the rows x_it z_iᵀ, and `head_direction_error`, of that
    part to the limit of the head's own selection. A problem that is made of H heads already, as `Run.problem` is, stays
    as it is.

    Args:
        heads: H, at least 1. With 1 all numbers are those of `Weights`.
        decoders: u_h, shape (H, d); by default the decoder of the problem for each.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
        >>> run = jaxsim.simulate(
        ...     problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(1.0), key=jax.random.key(1), lanes=8, steps=100,
        ...     train=jaxsim.train.Heads(2),
        ... )
        >>> run.more["head_norm"].shape, run.selection.shape, run.W(0).shape
        ((8, 2), (8, 6), (10, 5))
    """

    heads: int = 2
    decoders: Any = dataclasses.field(default=None, repr=False)

    name: ClassVar[str] = "heads"
    curves: ClassVar[Mapping[str, str]] = {"distinct_heads": "distinct heads"}
    finals: ClassVar[Mapping[str, str]] = {"head_norm": "lanes heads", "head_direction_error": "lanes heads"}

    def __post_init__(self):
        whole_number("heads", self.heads)

    def check(self, problem, loss, init):
        """Starts are matrices, the loss takes sums of margins, and the tokens of all heads have room."""
        super().check(problem, loss, init)
        if self.heads > 1 and positive(loss):
            raise ValueError(f"loss: expected one that takes margins of either sign; {loss.name} is of one head")
        if not _made_of(problem, self.heads):
            n, T, d = problem.shape
            what = f"{self.heads:,} heads of {n * T:,} tokens in as many times {d:,} dimensions"
            _machine.need("heads", 16 * self.heads**2 * n * T * d, what)

    def lift(self, problem):
        """The problem of all heads. One that is made of so many heads already keeps its tokens."""
        made = _made_of(problem, self.heads)
        own = problem.decoder.reshape(self.heads, -1) if made else np.tile(problem.decoder, (self.heads, 1))
        u = own if self.decoders is None else finite_array("decoders", self.decoders, own.shape, "(H, d)")
        if made and np.array_equal(u, own):
            return problem
        return _several(problem, u.ravel(), 1 if made else self.heads)

    def margins(self, problem):
        """Between the lowest scores of all heads together and the highest."""
        ends = [np.where(problem.visible, problem.scores, fill) for fill in (np.inf, -np.inf)]
        return np.stack([ends[0].min(1), ends[1].max(1)]).reshape(2, self.heads, -1).sum(1)

    def model(self, problem, frame, loss, dtype):
        """Attention with fixed decoders."""
        return attention(problem, frame, loss, dtype, self.heads)

    def columns(self, view):
        """Norms and direction errors of the single heads, and how many of their selections differ."""
        xi, _ = self.locate(view.frame, view.known, np.asarray(view.records.position))
        logits = np.where(view.problem.visible, view.frame.logits(xi), -np.inf)
        selection = logits.argmax(-1)
        selection[:, -1] = view.selection
        bases = _bases(view.frame, view.problem, self.heads)
        parts, limits = ([whole @ basis for basis in bases] for whole in (xi[:, -1], view.unit))
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = [_unit(part) - _unit(limit) for part, limit in zip(parts, limits, strict=True)]
        return super().columns(view) | {
            "distinct_heads": _distinct(selection.reshape(*selection.shape[:2], self.heads, -1)),
            "head_norm": np.stack([np.linalg.norm(part, axis=1) for part in parts], 1),
            "head_direction_error": np.stack([np.linalg.norm(part, axis=1) for part in apart], 1),
        }


def _several(problem: Problem, decoders: Float[np.ndarray, " Hd"], heads: int) -> Problem:
    """The problem so many times over, each time in dimensions of its own."""
    keys = None if problem.given_keys is None else _apart(problem.given_keys, heads)
    mask = None if problem.mask is None else np.tile(problem.mask, (heads, 1))
    queries, labels = np.tile(problem.queries, (heads, 1)), np.tile(problem.labels, heads)
    return Problem(_apart(problem.tokens, heads), queries, labels, decoders, mask, keys)


def _apart(x: Float[np.ndarray, "n T d"], heads: int) -> Float[np.ndarray, "Hn T Hd"]:
    """e_h ⊗ x_it."""
    n, T, d = x.shape
    return np.einsum("gh,itx->githx", np.eye(heads), x).reshape(heads * n, T, heads * d)


def _made_of(problem: Problem, heads: int) -> bool:
    """Whether a problem is one that `_several` made of so many heads."""
    if any(size % heads for size in (len(problem.labels), problem.shape[2], problem.W_shape[0])):
        return False
    n = len(problem.labels) // heads
    each = (problem.queries, problem.labels, problem.visible)
    vectors = (problem.tokens, problem.keys)
    return all(np.array_equal(x, np.tile(x[:n], (heads,) + (1,) * (x.ndim - 1))) for x in each) and all(
        np.array_equal(x, _apart(x[:n, :, : x.shape[2] // heads], heads)) for x in vectors
    )


def _distinct(selection: Int[np.ndarray, "lanes R heads n"]) -> Float[np.ndarray, "lanes R"]:
    """How many of the heads select otherwise than all before them."""
    alike = (selection[..., :, None, :] == selection[..., None, :, :]).all(-1)
    return (~np.tril(alike, -1).any(-1)).sum(-1, dtype=float)


def _bases(frame: Frame, problem: Problem, heads: int) -> list[Float[np.ndarray, "size r"]]:
    """An orthonormal basis, in ξ, of the span of the rows x_it z_iᵀ of every head."""
    n, T, _ = problem.shape
    rows = frame.combine(np.eye(n * T).reshape(n * T, n, T))
    return [orthonormal_basis(part) for part in np.split(rows, heads)]


def _unit(x: Float[np.ndarray, "lanes r"]) -> Float[np.ndarray, "lanes r"]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)

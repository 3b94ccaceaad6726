r"""The graph-SVM of next-token prediction: which tokens outrank which, and the shortest W that says so, certified.

Among the sequences that end with token k, let a → b say that a was chosen in a sequence in which b is. Tokens that
reach each other form the strongly connected components of this token-priority graph, one graph for each k. With e_a the
embedding of token a,

    W = argmin ‖W‖_F  subject to  (e_a - e_b)ᵀ W e_k = 0 for a → b inside a component,  ≥ 1 for a → b between two.

The matrices (e_a - e_b) e_kᵀ inside components span the cyclic subspace. There, W stays finite.
"""

import dataclasses
import functools
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim._basis import orthonormal_basis
from jaxsim._check import finite_array, token_numbers

from .least_norm import INFEASIBLE_BELOW, least_norm, proves_infeasible
from .solution import GAP_TOLERANCE
from .stack import powers_below

NEWTON_STEPS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class GraphSVM:
    """The graph-SVM of one set of sequences.

    Attributes:
        embeddings: e, shape (K, d).
        sequences: token numbers, shape (n, T).
        chosen: which tokens were chosen, shape (n, T).
        components: the component of every token in the graph of its sequence's last token, numbered within each
            graph, shape (n, T).
        status: "optimal" (margins, equalities and a dual bound prove the norm to 1e-9), "infeasible" (proved: a
            combination of the constraints vanishes) or "inaccurate" (neither was proved).
        norm: ‖W‖_F; inf where there is none, 0 where each graph is one component.
        W: the solution, NaN where there is none, shape (d, d).
        gap: relative duality gap of the squared norm, W being scaled so that its least margin is 1; counts rounding.
        slack: the largest |(e_a - e_b)ᵀ W e_k| inside components over the size of its factors.
    """

    embeddings: Float[np.ndarray, "K d"]
    sequences: Int[np.ndarray, "n T"]
    chosen: Bool[np.ndarray, "n T"]
    components: Int[np.ndarray, "n T"]
    status: Literal["optimal", "infeasible", "inaccurate"]
    norm: float
    W: Float[np.ndarray, "d d"]
    gap: float
    slack: float

    @functools.cached_property
    def cyclic(self) -> Float[np.ndarray, "d d r"]:
        """An orthonormal basis of the cyclic subspace."""
        inside, _ = _edges(self.sequences, self.chosen, self.components)
        return _span(_rows(self.embeddings, inside)).reshape(*self.W.shape, -1)


def graph_svm(embeddings: Any, sequences: Any, chosen: Any) -> GraphSVM:
    """The graph-SVM of sequences in which some tokens were chosen.

        W = argmin ‖W‖_F  subject to  (e_a - e_b)ᵀ W e_k = 0 for a → b inside a component,  ≥ 1 for a → b between two

    Args:
        embeddings: e, one row for each of K tokens, shape (K, d).
        sequences: token numbers, the last of each sequence being its query, shape (n, T).
        chosen: the token that follows each sequence, which must be one of it, shape (n,); or which places of each
            sequence are chosen, booleans of shape (n, T), at least one in each.

    Returns:
        A `GraphSVM` with W, components and certificate. Infeasible is a status, not an error.

    Raises:
        ValueError: where an argument has the wrong shape, or a token is out of range or not in its sequence.

    Reference:
        Graph-SVM of Li, Huang, Ildiz, Rawat, Oymak, arXiv 2403.08081, as their released program states it.

    Example:
        >>> import numpy as np
        >>> svm = graph_svm(np.eye(3), [[0, 1, 2], [1, 0, 2]], [0, 1])  # 0 and 1 follow 2, in turn; 2 never does
        >>> bool(svm.components[0, 0] == svm.components[0, 1]), svm.status
        (True, 'optimal')
        >>> bool(np.allclose(svm.W[:, 2], [1 / 3, 1 / 3, -2 / 3]))
        True
    """
    e, tokens, picked = _checked(embeddings, sequences, chosen)
    components = _components(tokens, picked, len(e))
    inside, across = _edges(tokens, picked, components)
    known = e, tokens, picked, components
    nothing = np.full((e.shape[1], e.shape[1]), np.nan)
    if not len(across):
        return GraphSVM(*known, "optimal", 0.0, np.zeros_like(nothing), 0.0, 0.0)
    unit = powers_below(e[None]).item()
    rows, zeros = (_rows(e / unit, edges) for edges in (across, inside))
    basis = _span(zeros)
    projected = rows - (rows @ basis) @ basis.T
    (lam,), (separable,), (stuck,) = least_norm(projected[None])
    left = np.linalg.norm(projected, axis=1) / np.linalg.norm(rows, axis=1)
    if left.min() < INFEASIBLE_BELOW:  # a combination of the equalities, which cannot have a margin
        lam, separable, stuck = np.eye(len(rows))[left.argmin()], False, False
    if separable:
        w = lam @ projected
        gap, slack, least = _certificate(rows, zeros, lam, w)
        if gap <= GAP_TOLERANCE and slack <= GAP_TOLERANCE:
            W = (w / least / unit**2).reshape(nothing.shape)
            return GraphSVM(*known, "optimal", float(np.linalg.norm(W)), W, gap, slack)
    infeasible = not stuck and not separable and _infeasible(e / unit, across, inside, rows, zeros, lam)
    return GraphSVM(*known, "infeasible" if infeasible else "inaccurate", np.inf, nothing, np.inf, np.inf)


def finite_part(svm: GraphSVM) -> tuple[Float[np.ndarray, "d d"], float]:
    """The finite part of W, and the length of the gradient there.

        W_fin = argmin over the cyclic subspace of  (1/n) Σ_i -log Σ_{t chosen} φ_it,

    φ_i the softmax over the tokens of sequence i that are in the component of its label. One token, in any number of
    places, must be chosen in each sequence.

    Reference:
        Li, Huang, Ildiz, Rawat, Oymak, arXiv 2403.08081, as their released program states it.

    Example:
        >>> import numpy as np
        >>> W, slope = finite_part(graph_svm(np.eye(3), [[0, 1, 2]] * 3, [0, 0, 1]))  # 0 twice as often as 1
        >>> bool(np.isclose(W[0, 2] - W[1, 2], np.log(2))), slope < 1e-12
        (True, True)
    """
    labels = np.where(svm.chosen, svm.sequences, svm.sequences.max())
    if not (svm.chosen <= (svm.sequences == labels.min(1, keepdims=True))).all():
        raise ValueError("svm: expected one chosen token in each sequence; some have several")
    own = np.where(svm.chosen, svm.components, -1).max(1, keepdims=True)
    left, right = svm.embeddings[svm.sequences], svm.embeddings[svm.sequences[:, -1]]
    F = np.einsum("itd,der,ie->itr", left, svm.cyclic, right, optimize=True)
    member, count = svm.components == own, len(own)
    target = (F * svm.chosen[:, :, None]).sum(1) / svm.chosen.sum(1)[:, None]  # of equal rows, one

    def at(c):
        logits = np.where(member, F @ c, -np.inf)
        top = logits.max(1, keepdims=True)
        weights = np.exp(logits - top)
        total = weights.sum(1, keepdims=True)
        return float((np.log(total) + top - (target @ c)[:, None]).sum()) / count, weights / total

    c = np.zeros(F.shape[2])
    value, phi = at(c)
    for _ in range(NEWTON_STEPS):
        mean = np.einsum("it,itr->ir", phi, F)
        gradient = (mean - target).sum(0) / count
        centred = F - mean[:, None]
        hessian = np.einsum("it,itr,its->rs", phi, centred, centred, optimize=True) / count
        step = np.linalg.solve(hessian, gradient)
        share = 1.0
        while share > 1e-8 and (found := at(c - share * step))[0] > value:
            share /= 2
        if share <= 1e-8 or np.linalg.norm(step) <= np.finfo(float).eps * np.linalg.norm(c):
            break  # the loss falls no more
        c, (value, phi) = c - share * step, found
    return svm.cyclic @ c, float(np.linalg.norm(gradient)) if len(c) else 0.0


def _checked(embeddings: Any, sequences: Any, chosen: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    e = finite_array("embeddings", embeddings, (None, None), "(K, d)")
    if len(np.unique(e, axis=0)) < len(e) or not e.any(1).all():
        raise ValueError("embeddings: expected distinct rows, none of them zero; got others")
    tokens, picked = token_numbers("sequences", sequences, len(e)), np.array(chosen)
    if picked.shape == tokens.shape and picked.dtype == bool:
        missing = ~picked.any(1)
    elif picked.shape == tokens.shape[:1] and np.issubdtype(picked.dtype, np.integer):
        missing, picked = ~(tokens == picked[:, None]).any(1), tokens == picked[:, None]
    else:
        raise ValueError(
            f"chosen: expected {len(tokens)} token numbers, or booleans of shape {tokens.shape}; got {picked.dtype} of "
            f"shape {picked.shape}"
        )
    if missing.any():
        raise ValueError(f"chosen: expected a token of each sequence; sequence {int(missing.argmax())} has none")
    return e, tokens, picked


def _components(tokens: np.ndarray, picked: np.ndarray, K: int) -> Int[np.ndarray, "n T"]:
    from scipy.sparse.csgraph import connected_components  # slow to import

    found = np.zeros_like(tokens)
    for k in np.unique(tokens[:, -1]):
        mine = np.flatnonzero(tokens[:, -1] == k)
        graph = np.zeros((K, K), bool)
        for i in mine:
            graph[np.ix_(tokens[i, picked[i]], tokens[i])] = True
        found[mine] = connected_components(graph, connection="strong")[1][tokens[mine]]
    return found


def _edges(tokens: np.ndarray, picked: np.ndarray, components: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k, a, b) for every a → b, those inside components and those between two."""
    i, t, s = np.nonzero(picked[:, :, None] & (tokens[:, :, None] != tokens[:, None]))
    edges, first = np.unique(np.stack([tokens[i, -1], tokens[i, t], tokens[i, s]], 1), axis=0, return_index=True)
    same = (components[i, t] == components[i, s])[first]
    return edges[same], edges[~same]


def _rows(e: np.ndarray, edges: np.ndarray) -> Float[np.ndarray, "M p"]:
    """(e_a - e_b) ⊗ e_k."""
    k, a, b = edges.T
    return np.einsum("md,me->mde", e[a] - e[b], e[k]).reshape(len(edges), e.shape[1] ** 2)


def _span(rows: np.ndarray) -> Float[np.ndarray, "p r"]:
    return orthonormal_basis(rows) if len(rows) else np.zeros((rows.shape[1], 0))


def _certificate(rows: np.ndarray, zeros: np.ndarray, lam: np.ndarray, w: np.ndarray) -> tuple[float, float, float]:
    """The duality gap and the slack of w, from the constraints as they are; and its least margin.

    (Σ λ)² / ‖Aᵀλ + Eᵀμ‖²  ≤  ‖W‖²  ≤  ‖w‖² / least²   for any λ ≥ 0 and μ
    """
    sizes, size = np.linalg.norm(rows, axis=1), np.linalg.norm(w)
    rounding = (sum(rows.shape) + 10) * np.finfo(float).eps
    pull, reach, slack = lam @ rows, lam @ sizes, 0.0
    if len(zeros):
        mu = np.linalg.lstsq(zeros.T, -pull, rcond=None)[0]
        pull, lengths = pull + mu @ zeros, np.linalg.norm(zeros, axis=1)
        reach, slack = reach + np.abs(mu) @ lengths, float((np.abs(zeros @ w) / (lengths * size)).max())
    least = float((rows @ w - rounding * sizes * size).min())
    lower = lam.sum() / (np.linalg.norm(pull) + rounding * reach)
    gap = float(1 - (lower * least / size) ** 2) if least > 0 else np.inf
    return gap, slack, float((rows @ w).min())


def _infeasible(e, across, inside, rows, zeros, lam) -> bool:
    """Whether λ ≥ 0 of the margins and μ of the equalities, each of which counts both ways, are proved to vanish."""
    mu = np.linalg.lstsq(zeros.T, -(lam @ rows), rcond=None)[0] if len(zeros) else np.zeros(0)
    k, a, b = np.concatenate([across, inside, inside[:, [0, 2, 1]]]).T
    both = lam.max() + np.maximum([mu, -mu], 0.0)  # what counts as much both ways vanishes, and spans
    weights = np.concatenate([lam, *both])
    return bool(proves_infeasible((e[a] - e[b])[None], e[k][None], k, weights[None])[0])

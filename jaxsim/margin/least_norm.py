r"""The shortest w with A w ≥ 1, for many A of one shape, in floats; and when floats prove that there is none.

A least-distance problem over unit rows, solved by non-negative least squares (Lawson & Hanson, Solving Least Squares
Problems, ch. 23) and polished on its active set.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

INFEASIBLE_BELOW = 1e-11  # of the least-distance residual, about the reciprocal of the norm in units of the data
NEGLIGIBLE = 1e-10  # a multiplier beside the largest one, left out of a proof


def coordinates(rows: Float[np.ndarray, "N p"]) -> Float[np.ndarray, "N r"]:
    """The same rows in an orthonormal basis of no more than N vectors; Householder, so exact to rounding row by row."""
    if rows.shape[1] <= len(rows):
        return rows
    triangle: np.ndarray = np.linalg.qr(rows.T, mode="r")  # type: ignore[assignment]
    return triangle.T


def least_norm(
    A: Float[np.ndarray, "U M r"],
) -> tuple[Float[np.ndarray, "U M"], Bool[np.ndarray, " U"], Bool[np.ndarray, " U"]]:
    """Multipliers λ ≥ 0 of min ‖w‖ subject to A w ≥ 1, w = Aᵀλ; whether such a w seems to exist; and where the solver
    gave up. Where none seems to exist, Aᵀλ is 0 but for rounding.
    """
    import scipy.optimize  # slow to import, and only solving needs it

    sizes = np.sqrt((A * A).sum(2))
    separable = sizes.all(1)
    sizes[~separable] = 1.0
    demand = sizes.min(1, keepdims=True) / sizes
    B = A / sizes[:, :, None]
    system = np.concatenate([B, demand[:, :, None]], axis=2)
    target = np.zeros(system.shape[2])
    target[-1] = 1.0
    lam, stuck = np.zeros(demand.shape), np.zeros(len(A), bool)
    for k in np.flatnonzero(separable):
        try:
            lam[k], residual = scipy.optimize.nnls(system[k].T, target, maxiter=50 * len(lam[k]) + 100)
        except RuntimeError:  # no convergence
            stuck[k] = True
            continue
        # At the optimum residual² = 1/(1 + ‖w‖²) = 1 - demand·λ in these units; it vanishes exactly when no w exists.
        slack = 1.0 - demand[k] @ lam[k]
        separable[k] = residual >= INFEASIBLE_BELOW and slack > 0
        lam[k] /= slack if separable[k] else 1.0
    lam = _polish(B, demand, lam)
    return lam / (sizes.min(1, keepdims=True) * sizes), separable, stuck


def proves_infeasible(
    left: Float[np.ndarray, "s k"], right: Float[np.ndarray, "s e"], owner: Int[np.ndarray, " s"], lam: np.ndarray
) -> bool:
    """Whether λ > 0 is so near to multipliers whose combination Σ λ_m left_m right_mᵀ vanishes that these exist.

    Rows of one owner share their right side, so all lie in a space of at most m = k·min(owners, e) dimensions. Where
    their m-th singular value σ is not 0 they span it, so the residual ρ = ‖Σ λ_m row_m‖ can be taken away by changing λ
    by at most ρ/σ; where that is less than the smallest λ_m, multipliers stay positive and the combination vanishes.
    Everything is bounded with rounding.
    """
    sizes = np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1)
    weights = lam * sizes[0] * sizes[1]  # of rows of length 1
    kept = weights > NEGLIGIBLE * weights.max(initial=0)
    count, dimension = int(kept.sum()), left.shape[1] * min(len(set(owner[kept].tolist())), right.shape[1])
    if count <= dimension:
        return False
    weights, left, right = weights[kept], (left / sizes[0][:, None])[kept], (right / sizes[1][:, None])[kept]
    gram = (left @ left.T) * (right @ right.T)
    rounding = (left.shape[1] + right.shape[1] + 10) * np.finfo(float).eps
    least = np.linalg.eigvalsh(gram)[count - dimension] - count * (count + 10) * rounding
    residual = weights @ gram @ weights + 2 * rounding * weights.sum() ** 2
    return bool(residual < least * weights.min() ** 2)


def _polish(B: np.ndarray, demand: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Solve the active constraints as equations; keep the start where that leaves the non-negative orthant."""
    active = lam > 0
    count = active.sum(1)
    polished = lam.copy()
    for width in np.unique(count[(count > 0) & (count <= B.shape[2])]):  # alike ones stack
        which = np.flatnonzero(count == width)
        mine = active[which]
        rows = B[which][mine].reshape(len(which), width, -1)
        R: np.ndarray = np.linalg.qr(rows.swapaxes(1, 2), mode="r")  # type: ignore[assignment]
        diagonal = np.abs(np.diagonal(R, axis1=1, axis2=2))
        sound = diagonal.min(1) > width * np.finfo(float).eps * diagonal.max(1)
        R[~sound] = np.eye(width)
        inner = np.linalg.solve(R.swapaxes(1, 2), demand[which][mine].reshape(-1, width, 1))
        exact = np.linalg.solve(R, inner)[:, :, 0]
        sound &= (exact >= 0).all(1)
        each = polished[which]
        each[mine] = exact.ravel()
        polished[which[sound]] = each[sound]
    return polished

r"""The shortest w with A w ≥ 1, for many A of one shape, in floats; and when floats prove that there is none.

A least-distance problem over unit rows, solved by non-negative least squares (Lawson & Hanson, Solving Least Squares
Problems, ch. 23) and polished on its active set.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

INFEASIBLE_BELOW = 1e-11  # of the least-distance residual, about the reciprocal of the norm in units of the data
NEGLIGIBLE = 1e-10  # a multiplier beside the largest one, left out of a proof


def coordinates(rows: Float[np.ndarray, "P N p"]) -> Float[np.ndarray, "P N r"]:
    """The same rows in an orthonormal basis of no more than N vectors; Householder, so exact to rounding row by row."""
    if rows.shape[2] <= rows.shape[1]:
        return rows
    triangle: np.ndarray = np.linalg.qr(rows.swapaxes(1, 2), mode="r")  # type: ignore[assignment]
    return triangle.swapaxes(1, 2)


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
    left: Float[np.ndarray, "U M k"], right: Float[np.ndarray, "U M e"], owner: Int[np.ndarray, " M"], lam: np.ndarray
) -> Bool[np.ndarray, " U"]:
    """Whether λ ≥ 0 is so near to multipliers whose combination Σ λ_m left_m right_mᵀ vanishes that these exist.

    Rows of one owner share their right side, so those with λ > 0 lie in a space of at most D = k·min(owners, e)
    dimensions. Where their D-th singular value σ is not 0 they span it, so the residual ρ = ‖Σ λ_m row_m‖ can be taken
    away by changing λ by at most ρ/σ; where that is less than the smallest λ_m > 0, multipliers stay positive and the
    combination vanishes. Everything is bounded with rounding.
    """
    sizes = [np.maximum(np.linalg.norm(side, axis=2), np.finfo(float).tiny) for side in (left, right)]
    weights = lam * sizes[0] * sizes[1]  # of rows of length 1
    used = weights > NEGLIGIBLE * weights.max(1, keepdims=True)
    rounding = (left.shape[2] + right.shape[2] + 10) * np.finfo(float).eps
    owners = np.stack([(used & (owner == i)).any(1) for i in np.unique(owner)]).sum(0)
    dimension = left.shape[2] * np.minimum(owners, right.shape[2])
    count = used.sum(1)
    proved = np.zeros(len(lam), bool)
    for width in np.unique(count[count > dimension]):  # alike ones stack
        which = np.flatnonzero((count == width) & (count > dimension))
        mine = used[which]
        sides = [(a[which] / size[which][:, :, None])[mine] for a, size in zip((left, right), sizes, strict=True)]
        x, z = (side.reshape(len(which), width, -1) for side in sides)
        w = weights[which][mine].reshape(len(which), width)
        gram = (x @ x.swapaxes(1, 2)) * (z @ z.swapaxes(1, 2))
        values = np.linalg.eigvalsh(gram)[np.arange(len(which)), width - dimension[which]]
        least = values - width * (width + 10) * rounding
        residual = ((gram @ w[:, :, None])[:, :, 0] * w).sum(1) + 2 * rounding * w.sum(1) ** 2
        proved[which] = residual < least * w.min(1) ** 2
    return proved


def surrounded(rows: Float[np.ndarray, "M k"]) -> bool:
    """Whether floats prove that a combination of the rows vanishes, the rows spanning all k dimensions."""
    if len(rows) <= rows.shape[1]:
        return False
    lam, separable, _ = least_norm(rows[None])
    return not separable[0] and bool(
        proves_infeasible(rows[None], np.ones((1, len(rows), 1)), np.zeros(len(rows), int), lam)[0]
    )


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

"""Problems with a ReLU head: their runs, and the predictors of W (arXiv 2308.16898)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxsim import driver, rules
from jaxsim.coordinates import DualFrame, as_device
from jaxsim.margin import hard_margin
from jaxsim.model import named
from jaxsim.model.relu_head import relu_heads, stack_blocks
from jaxsim.problem import Problem
from jaxsim.reproduce import draws, original
from jaxsim.reproduce.paths import cosine

N, T, ETA = 3, 4, 0.1
RECORD = np.array([*range(1, 2001, 100), 2000, 2001])  # as published: after update index 0, 100, …; 2,000 is the test
TESTED = len(RECORD) - 2
LOW, HIGH = 1e-6, 1e-3  # weights up to LOW are left out, above HIGH selected, between them undecided
PREDICTORS = ("eq", "mm", "single")
REASONS = ("kept", "no negative label", "undecided weight", "all weights stay", "infeasible")


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Problems of one dimension, by seed, problems first."""

    tokens: Float[np.ndarray, "p n T d"]
    queries: Float[np.ndarray, "p n d"]
    labels: Float[np.ndarray, "p n"]
    head: Float[np.ndarray, "p d d"]
    starts: Float[np.ndarray, "p d d"]

    @property
    def units(self) -> Float[np.ndarray, "p n T d"]:
        """v_ith = (Vᵀ x_it)_h."""
        return np.einsum("pitd,pdh->pith", self.tokens, self.head)


def draw(d: int, count: int) -> Batch:
    """The problems of seeds 1 to `count`, and starts of our own."""
    parts = []
    for seed in range(1, count + 1):
        stream = draws.Stream(seed)
        head = stream.normal(d, d)
        head /= np.linalg.norm(head)
        tokens = stream.unit(N, T, d)
        labels = stream.labels(N)
        parts.append((tokens, stream.unit(N, d), labels, head))
    tokens, queries, labels, head = (np.stack(part).astype(float) for part in zip(*parts, strict=True))
    return Batch(tokens, queries, labels, head, draws.uniform_starts(d, count, d, d))


def right(batch: Batch) -> Float[np.ndarray, "R p d d"]:
    """W at RECORD with scaled gradients."""
    count = len(batch.labels)
    frames = [
        DualFrame(
            Problem(x, z, y, V.sum(1)), factored=False
        )  # the head as if linear; only tokens and queries matter here
        for x, z, y, V in zip(batch.tokens, batch.queries, batch.labels, batch.head, strict=True)
    ]
    begin = np.stack([f.project(W[None])[1][0] for f, W in zip(frames, batch.starts, strict=True)])
    blocks = jax.local_device_count()
    width = -(-count // blocks)
    lanes = np.minimum(np.arange(blocks * width), count - 1).reshape(blocks, width)
    models = [
        relu_heads([frames[k] for k in row], batch.units[row], batch.labels[row], named("logistic"), np.float64)
        for row in lanes
    ]
    how = driver.Plan(width, blocks, 1)
    rule: Any = as_device(rules.NGD(ETA), np.float64)
    start: Any = driver.Start(jnp.asarray(begin[lanes.ravel()]), model=stack_blocks(models))
    (chunk,) = driver.run(models[0], rule, [start], RECORD, how)
    coeffs = chunk.records.position[:count].reshape(count, len(RECORD), N, T)
    moved = np.einsum("prit,pitd,pie->rpde", coeffs, batch.tokens, batch.queries, optimize=True)
    return batch.starts + moved


def rounded(batch: Batch) -> Float[np.ndarray, "R p d d"]:
    """The same in the published arithmetic."""
    data = {"X": batch.tokens, "Z": batch.queries, "y": batch.labels, "units": batch.units}
    found, _ = original.descend(
        original.relu_loss, {"W": batch.starts}, data, eta=ETA, record=RECORD.tolist(), eps=float(np.finfo(float).eps)
    )
    return found["W"]


def weights(batch: Batch, W: Float[np.ndarray, "p d d"]) -> Float[np.ndarray, "p n T"]:
    """The attention weights φ."""
    logits = np.einsum("pitd,pde,pie->pit", batch.tokens, W, batch.queries, optimize=True)
    exponential = np.exp(logits - logits.max(-1, keepdims=True))
    return exponential / exponential.sum(-1, keepdims=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """What became of every problem.

    Attributes:
        reason: an index into REASONS, (p,).
        correlation: of W with each of PREDICTORS at RECORD without 2,000; NaN where not kept, (3, R - 1, p).
        leftover: the largest weight of a token that is left out, (p,).
        flat: whether some sequence has no active unit, so that its gradient is 0 and it pulls W nowhere, (p,).
    """

    reason: np.ndarray
    correlation: Float[np.ndarray, "predictor R p"]
    leftover: Float[np.ndarray, " p"]
    flat: Bool[np.ndarray, " p"]


def judge(batch: Batch, W: Float[np.ndarray, "R p d d"]) -> Judged:
    """The published tests on every problem, and the predictors of those that pass."""
    phi = weights(batch, W[TESTED])
    chosen = phi > HIGH
    reason = np.zeros(len(phi), int)
    reason[((phi > LOW) & ~chosen).any((1, 2))] = REASONS.index("undecided weight")
    reason[(reason == 0) & (phi > LOW).all((1, 2))] = REASONS.index("all weights stay")
    reason[(batch.labels > 0).all(1)] = REASONS.index("no negative label")
    kept = np.delete(W, TESTED, axis=0)
    correlation = np.full((len(PREDICTORS), *kept.shape[:2]), np.nan)
    for k in np.flatnonzero(reason == 0):
        found = predict(batch.tokens[k], batch.queries[k], chosen[k], phi[k], W[-1, k])
        if found is None:
            reason[k] = REASONS.index("infeasible")
            continue
        correlation[:, :, k] = [cosine(kept[:, k], direction) for direction in found]
    flat = (np.einsum("pit,pith->pih", phi, batch.units) <= 0).all(2).any(1)
    return Judged(reason, correlation, np.where(chosen, 0.0, phi).max((1, 2)), flat)


def predict(
    x: Float[np.ndarray, "n T d"], z: Float[np.ndarray, "n d"], chosen: Bool[np.ndarray, "n T"],
    phi: Float[np.ndarray, "n T"], W: Float[np.ndarray, "d d"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:  # fmt: skip
    """The three predictions of the direction of W; None where one of the problems behind them has no solution.

        W_mm    argmin ‖W‖_F   with equal logits among the chosen tokens, and 1 more than every other token
        W_fin   argmin ‖W‖_F   with logit differences log φ_it/φ_is among the chosen tokens
        W_eq    W_fin + R W_mm, R such that it is nearest to W
        single  argmin ‖W‖_F   with the logit of the largest weight 1 above all others

    Returns:
        W_eq, W_mm and single.
    """
    top = phi.argmax(1)
    rows = np.einsum("itd,ie->itde", x[np.arange(len(x)), top][:, None] - x, z).reshape(*phi.shape, -1)
    other = ~chosen
    same = chosen.copy()
    same[np.arange(len(top)), top] = False
    equal, free = rows[same], np.eye(rows.shape[-1])
    finite = np.zeros(rows.shape[-1])
    if len(equal):
        with np.errstate(divide="ignore"):
            ratio = (np.log(phi.max(1, keepdims=True)) - np.log(phi))[same]
        finite, _, rank, _ = np.linalg.lstsq(equal, ratio, rcond=None)
        if rank < len(equal) and not np.allclose(equal @ finite, ratio, rtol=0, atol=1e-8):
            return None
        free = np.linalg.svd(equal)[2][rank:].T
    unit, norm = hard_margin(rows[other] @ free)
    alone, size = hard_margin(rows[np.arange(phi.shape[1]) != top[:, None]])
    if not np.isfinite(norm + size):
        return None
    mm = free @ unit * norm
    both = finite + mm * ((W.ravel() - finite) @ mm) / (mm @ mm)
    d = x.shape[2]
    return both.reshape(d, d), mm.reshape(d, d), size * alone.reshape(d, d)

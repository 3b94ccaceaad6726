"""W along runs, and the limits of many runs: what several experiments need."""

import dataclasses
import functools
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from jaxsim.margin import max_margin
from jaxsim.normed import NormedMargin
from jaxsim.problem import Problem
from jaxsim.results import Run
from jaxsim.train import Joint, KeyQuery
from jaxsim.train.key_query import whole_factors


@dataclasses.dataclass(frozen=True)
class TracedKeyQuery(KeyQuery):
    """Key-query training whose `Run.more["product"]` holds K Qᵀ at every recorded step, (lanes, R, d, e)."""

    nuclear: bool = False

    def columns(self, view):
        """What `KeyQuery` adds, and the product."""
        position = np.asarray(view.records.position, np.float64)
        K, Q = whole_factors(view.frame, position, view.known, self.width)
        return super().columns(view) | {"product": K @ Q.swapaxes(-1, -2)}


@dataclasses.dataclass(frozen=True)
class TracedJoint(Joint):
    """Joint training whose `Run.more["decoder_path"]` holds u at every recorded step, (lanes, R, d)."""

    def columns(self, view):
        """What `Joint` adds, and the path."""
        return super().columns(view) | {"decoder_path": self.decoders_of(view)}


def weights_along(run: Run, start: Float[np.ndarray, "d e"], lane: int = 0) -> Float[np.ndarray, "R d e"]:
    """W at every recorded step of a lane of a run that kept its coefficients, from W_0."""
    if run.coeffs is None:
        raise ValueError('run: expected one that kept "coeffs"')
    moved = np.einsum("rit,itd,ie->rde", run.coeffs[lane], run.problem.keys, run.problem.queries, optimize=True)
    return start + moved


def nuclear(problems: Iterable[Problem], selections: Iterable[Any]) -> list[NormedMargin]:
    """The nuclear-norm att-SVM of each problem and selection; equal pairs are solved once, the others on all cores."""
    problems = list(problems)
    pairs = [(id(p), tuple(int(t) for t in alpha)) for p, alpha in zip(problems, selections, strict=True)]
    todo = dict(zip(pairs, problems, strict=True))
    solve: Any = functools.partial(max_margin, norm="nuclear")
    with warnings.catch_warnings(), threadpool_limits(1), ThreadPoolExecutor(len(jax.devices("cpu"))) as pool:
        warnings.simplefilter("ignore")  # filters are shared by threads: the solver's own must not be put back midway
        found = pool.map(lambda pair: solve(todo[pair], np.array(pair[1])), todo)
        solved = dict(zip(todo, found, strict=True))
    return [solved[pair] for pair in pairs]


def cosine(a: Float[np.ndarray, "... d e"], b: Float[np.ndarray, "... d e"]) -> Float[np.ndarray, "..."]:
    """The correlation ⟨A, B⟩ / (‖A‖ ‖B‖) of matrices; NaN where one is zero or missing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.linalg.norm(a, axis=(-2, -1)) * np.linalg.norm(b, axis=(-2, -1))
        return np.asarray((a * b).sum((-2, -1)) / size)

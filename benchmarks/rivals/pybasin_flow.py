"""Basin stability by pybasin (0.2, Python 3.12): the gradient flow of which GD takes steps, from the same starts.

It integrates dW/dt = -∇L(W) by diffrax with its own settings (Dopri5, tolerances 1e-8 and 1e-6) to the time η · steps,
and names the token that each sequence then attends to most.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import torch  # type: ignore[import-not-found]
from pybasin.basin_stability_estimator import BasinStabilityEstimator  # type: ignore[import-not-found]
from pybasin.feature_extractors.feature_extractor import FeatureExtractor  # type: ignore[import-not-found]
from pybasin.sampler import Sampler  # type: ignore[import-not-found]
from pybasin.solvers.jax_ode_system import JaxODESystem  # type: ignore[import-not-found]
from pybasin.solvers.jax_solver import JaxSolver  # type: ignore[import-not-found]
from sklearn.base import BaseEstimator, ClusterMixin

import jaxsim
from benchmarks.rivals.measured import starts

ETA = 1.0


def measure(problem, lanes=1000, steps=2000):
    """Lane-steps per second of pybasin and of GD, and the share of lanes for which both name the same tokens."""
    W0 = starts(problem, lanes)
    began = time.perf_counter()
    flow = _Flow(problem)
    found = _Selections(flow)
    estimator = BasinStabilityEstimator(
        flow, _Given(W0), n=lanes, feature_extractor=found, predictor=_Distinct(), feature_selector=None,
        solver=JaxSolver(t_span=(0.0, ETA * steps), t_steps=2, device="cpu", cache_dir=None),
    )  # fmt: skip
    estimator.run()
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    run = jaxsim.simulate(
        problem, jaxsim.rules.GD(ETA), jaxsim.init.Given(W0), key=jax.random.key(0), lanes=lanes, steps=steps
    )
    ours = time.perf_counter() - began
    same = (found.selection == run.final_logits.argmax(2)).all(1).mean()
    return lanes * steps / seconds, lanes * steps / ours, same


class _Flow(JaxODESystem):
    def __init__(self, problem):
        super().__init__({})
        self.X, self.Z, self.s = (jnp.asarray(v) for v in (problem.tokens, problem.queries, problem.scores))
        self.shape = problem.W_shape

    def logits(self, w):
        return jnp.einsum("itd,de,ie->it", self.X, w.reshape(self.shape), self.Z)

    def loss(self, w):
        return jax.nn.softplus(-(jax.nn.softmax(self.logits(w), axis=1) * self.s).sum(1)).mean()

    def ode(self, t, y, p):
        return -jax.grad(self.loss)(y)


class _Given(Sampler):
    """Starts as they are given."""

    def __init__(self, W0):
        flat = W0.reshape(len(W0), -1)
        super().__init__(flat.min(0).tolist(), flat.max(0).tolist(), device="cpu")
        self.flat = flat

    def sample(self, n):
        return torch.tensor(self.flat[:n])


class _Selections(FeatureExtractor):
    def __init__(self, flow):
        super().__init__(time_steady=0.0)
        self.flow = flow

    def extract_features(self, solution):
        last = jnp.asarray(solution.y[-1].cpu().numpy())
        self.selection = np.asarray(jax.vmap(self.flow.logits)(last)).argmax(2)
        return torch.tensor(self.selection.astype(np.float64))


class _Distinct(ClusterMixin, BaseEstimator):
    """One label for each selection."""

    def fit_predict(self, X, y=None):
        return np.unique(X, axis=0, return_inverse=True)[1].ravel()

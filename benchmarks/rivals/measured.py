"""How fast the rivals are, and how far off after 2,000 steps: NGD with step 0.1 from the same starts."""

import functools
import statistics
import time
from typing import Any

import jax
import numpy as np

import jaxsim
from benchmarks.rivals import jax_batch, numpy_batch
from jaxsim.native import has_compiler

STEPS = 2000


def rivals():
    """Name, how a batch of it begins, and steps of one call; PyTorch's where it is installed."""
    found: dict[str, Any] = {
        "NumPy batch, logits": (numpy_batch.begin, 1),
        "JAX batch, vmap of autodiff in W": (jax_batch.begin, jax_batch.STEPS),
    }
    try:
        from benchmarks.rivals import torch_batch
    except ImportError:
        print("  (PyTorch is not installed; its rivals are left out)")
        return found
    for space in ("parameters", "logits"):
        for compiled in (False, True):
            begin = functools.partial(torch_batch.begin, space=space, compiled=compiled)
            found[f"PyTorch batch, {space}, {'compiled' if compiled else 'eager'}"] = (begin, 1)
    return found


def rate(problem, dtype, begin, at_once, lanes=10_000, steps=10):
    """Lane-steps per second over all cores: the median of five times `steps` steps, after as many."""
    step, state, _ = begin(problem, dtype, _starts(problem, lanes))
    times = []
    for _ in range(6):
        began = time.perf_counter()
        for _ in range(steps // at_once):
            state = step(state)
        times.append(time.perf_counter() - began)
    return lanes * steps / statistics.median(times[1:])


def off(problem, dtype, begin, at_once, lanes=200):
    """How far the directions of lanes are off after STEPS steps: the median over lanes, infinite where no number."""
    W0 = _starts(problem, lanes)
    step, state, logits = begin(problem, dtype, W0)
    with np.errstate(all="ignore"):
        for _ in range(STEPS // at_once):
            state = step(state)
        return _median(_directions(logits(state)) - _right(problem, W0))


def ours(problem, dtype, lanes=200):
    """The same of `simulate`, by XLA, against float64 by the fastest engine; tests hold both against many digits."""
    W0 = _starts(problem, lanes)
    return _median(_directions(_run(problem, W0, dtype, "xla").final_logits) - _right(problem, W0))


def _median(differences):
    return float(np.median(np.nan_to_num(np.linalg.norm(differences, axis=1), nan=np.inf)))


def _starts(problem, lanes):
    return np.random.default_rng(0).standard_normal((lanes, *problem.W_shape))


def _run(problem, W0, dtype, engine):
    options: dict = dict(key=jax.random.key(0), lanes=len(W0), steps=STEPS, dtype=dtype, limits="none", engine=engine)
    return jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), jaxsim.init.Given(W0), **options)


def _right(problem, W0):
    engine = "native" if has_compiler() else "xla"
    return _directions(_run(problem, W0, "float64", engine).final_logits)


def _directions(logits):
    """All logits of a lane, centred in every sequence, over their length."""
    centred = (logits - logits.mean(2, keepdims=True)).reshape(len(logits), -1).astype(np.float64)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)

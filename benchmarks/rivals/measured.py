"""How fast the rivals are, and how far off after 2,000 steps: NGD with step 0.1 from the same starts."""

import functools
from typing import Any

import jax
import numpy as np

import jaxsim
from benchmarks.clock import median_seconds
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
    """Lane-steps per second over all cores."""
    step, state, _ = begin(problem, dtype, starts(problem, lanes))

    def go():
        nonlocal state
        for _ in range(steps // at_once):
            state = step(state)

    return lanes * steps / median_seconds(go)


def off(problem, dtype, begin, at_once, W0, right):
    """How far the directions of lanes are off after STEPS steps: the median over lanes, infinite where no number."""
    step, state, logits = begin(problem, dtype, W0)
    with np.errstate(all="ignore"):
        for _ in range(STEPS // at_once):
            state = step(state)
        return _median(_directions(logits(state)) - right)


def ours(problem, dtype, W0, right):
    """The same of `simulate`, by XLA; tests hold both engines against many digits."""
    return _median(_run(problem, W0, dtype, "xla") - right)


def truth(problem, W0):
    """The directions after STEPS steps, in float64 and by the fastest engine."""
    return _run(problem, W0, "float64", "native" if has_compiler() else "xla")


def starts(problem, lanes):
    """Standard normal W_0, the same ones at every call."""
    return np.random.default_rng(0).standard_normal((lanes, *problem.W_shape))


def _median(differences):
    return float(np.median(np.nan_to_num(np.linalg.norm(differences, axis=1), nan=np.inf)))


def _run(problem, W0, dtype, engine):
    options: dict = dict(key=jax.random.key(0), lanes=len(W0), steps=STEPS, dtype=dtype, limits="none", engine=engine)
    return _directions(jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), jaxsim.init.Given(W0), **options).final_logits)


def _directions(logits):
    """All logits of a lane, centred in every sequence, over their length."""
    centred = (logits - logits.mean(2, keepdims=True)).reshape(len(logits), -1).astype(np.float64)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)

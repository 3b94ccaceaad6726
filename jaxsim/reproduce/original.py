"""The arithmetic of the published programs, to explain by a run where their numbers differ from right ones.

They differentiate the loss through the softmax as it stands, without a scale, and add eps to the norm that they divide
by. Once attention has saturated, the gradient is rounding noise, and then below eps, which shortens the steps.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Tree = Any


def descend(
    loss: Callable[[Tree, Tree], jax.Array],
    params: Tree,
    data: Tree,
    *,
    eta: float,
    record: Sequence[int],
    eps: float,
    dtype: Any = np.float64,
    normalise: bool = True,
) -> tuple[Tree, dict[str, np.ndarray]]:
    """Gradient descent with unscaled gradients, each block of parameters divided by its norm plus eps.

        P ← P - η ∇L / (‖∇L‖ + eps)

    Args:
        loss: loss(params, data) of one problem.
        params: a dictionary of blocks, problems first.
        data: a tree of arrays, problems first.
        eta: the step size η.
        record: steps to record, ascending; step k means after k updates.
        eps: what is added to the norm.
        dtype: the precision of everything.
        normalise: False for plain gradient descent.

    Returns:
        The parameters at the recorded steps, (R, problems, …); and for each block the length of the step before a
        record over η, (R, problems), which without eps would be 1.
    """
    params, data = (jax.tree.map(lambda x: jnp.asarray(x, dtype), tree) for tree in (params, data))
    gaps = jnp.asarray(np.diff(np.asarray(record), prepend=0), jnp.int32)
    found, share = _program(loss, normalise)(params, data, gaps, jnp.asarray(eta, dtype), jnp.asarray(eps, dtype))
    return jax.tree.map(lambda x: np.asarray(x, np.float64), (found, share))


@functools.cache
def _program(loss, normalise):
    def one(params, data, gaps, eta, eps):
        def step(_, carry):
            params, _ = carry
            gradient = jax.grad(loss)(params, data)
            norm = {name: jnp.linalg.norm(g) for name, g in gradient.items()}
            divisor = {name: norm[name] + eps if normalise else jnp.ones_like(eps) for name in norm}
            moved = {name: params[name] - eta * gradient[name] / divisor[name] for name in params}
            return moved, {name: norm[name] / divisor[name] for name in norm}

        def segment(carry, gap):
            carry = lax.fori_loop(jnp.zeros_like(gap), gap, step, carry)
            return carry, carry

        still = {name: jnp.ones((), x.dtype) for name, x in params.items()}
        return lax.scan(segment, (params, still), gaps)[1]

    return jax.jit(jax.vmap(one, in_axes=(0, 0, None, None, None), out_axes=1))


def logistic(margins: jax.Array) -> jax.Array:
    """The mean of log(1 + e^-m), as written."""
    return jnp.log(1 + jnp.exp(-margins)).mean()


def margins(logits: jax.Array, tokens: jax.Array, labels: jax.Array, decoder: jax.Array) -> jax.Array:
    """y_i uᵀ Σ_t φ_it x_it by an ordinary softmax."""
    return labels * (jnp.einsum("it,itd->id", jax.nn.softmax(logits, axis=1), tokens, precision="highest") @ decoder)


def weights_loss(params, data):
    """L(W) of cross-attention."""
    logits = jnp.einsum("itd,de,ie->it", data["X"], params["W"], data["Z"], precision="highest")
    return logistic(margins(logits, data["X"], data["y"], data["u"]))


def factors_loss(params, data):
    """L(K Qᵀ) + λ (‖K‖² + ‖Q‖²), λ the eps of float64, as the published programs penalise it."""
    K, Q = params["K"], params["Q"]
    logits = jnp.einsum("itm,im->it", data["X"] @ K, data["Z"] @ Q, precision="highest")
    penalty = np.finfo(np.float64).eps * (jnp.sum(K * K) + jnp.sum(Q * Q))
    return logistic(margins(logits, data["X"], data["y"], data["u"])) + penalty.astype(logits.dtype)


def prompt_loss(params, data):
    """L(p) of prompt attention with a fixed decoder."""
    logits = jnp.einsum("itk,k->it", data["keys"], params["p"], precision="highest")
    return logistic(margins(logits, data["X"], data["y"], data["u"]))


def prompt_linear_loss(params, data):
    """The same with ℓ(m) = -m."""
    logits = jnp.einsum("itk,k->it", data["keys"], params["p"], precision="highest")
    return -margins(logits, data["X"], data["y"], data["u"]).mean()


def prompt_and_decoder_loss(params, data):
    """L(p, v) with both trained."""
    logits = jnp.einsum("itk,k->it", data["keys"], params["p"], precision="highest")
    return logistic(margins(logits, data["X"], data["y"], params["v"]))


def prompt_data(problem: Any, count: int = 1) -> dict[str, np.ndarray]:
    """The arrays of a prompt problem, `count` times."""
    one = {"keys": problem.keys, "X": problem.tokens, "y": problem.labels, "u": problem.decoder}
    return {name: np.broadcast_to(value, (count, *value.shape)) for name, value in one.items()}


def relu_loss(params, data):
    """L(W) of cross-attention under a ReLU head that sums its units."""
    logits = jnp.einsum("itd,de,ie->it", data["X"], params["W"], data["Z"], precision="highest")
    units = jnp.einsum("it,ith->ih", jax.nn.softmax(logits, axis=1), data["units"], precision="highest")
    return logistic(data["y"] * jax.nn.relu(units).sum(1))

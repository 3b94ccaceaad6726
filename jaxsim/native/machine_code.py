"""Which runs machine code can make, and the call that makes many steps of one."""

import functools
import hashlib
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxsim.coordinates import Dual
from jaxsim.driver import Engine, State
from jaxsim.model import Attention
from jaxsim.model.gradient import Tree
from jaxsim.native.building import NotBuilt, library
from jaxsim.rules import Rule

ENGINES = ("auto", "xla", "native")
WORTH = 2 * 10**10  # multiplications of a run from which on building costs less than it saves
LARGEST = 256  # tokens of all sequences together: their Gram matrix stays in the second-level cache


def steps(
    model: Any, rule: Any, state: State, residual: tuple[Tree, ...] | None, count: Int[Array, ""]
) -> tuple[State, tuple[Tree, ...] | None]:
    """`count` steps in one call of machine code: what `plain` and `compensated` of the driver do, up to rounding."""
    carried, shape = jax.tree.flatten((state.params, residual, state.memory))
    scores, gram, dtype = model.scores, model.space.gram, carried[0].dtype
    visible = jnp.ones((*carried[0].shape[:2], 1), bool) if model.visible is None else model.visible
    given = jnp.stack([jnp.asarray(value, dtype) for value in rule.native[1]])
    call = jax.ffi.ffi_call(
        _target(_settings(model, rule, dtype)),
        [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in carried],
        input_output_aliases={k: k for k in range(len(carried))},
    )
    grams = gram.reshape(-1, *gram.shape[-2:])
    out = call(*carried, grams, model.space.size, scores.deficits, scores.best, visible, given, count)
    params, residual, memory = jax.tree.unflatten(shape, out)
    return State(params, memory), residual


def engine(asked: str, model: Any, rule: Rule, dtype: Any, lane_steps: float) -> Engine | None:
    """What makes the steps of the model under the rule by machine code; None where XLA does.

    Args:
        asked: "xla", "native", or "auto" for the one that is done sooner.
        model: the model, or one block of several.
        rule: the rule.
        dtype: of the run.
        lane_steps: steps of all lanes together.

    Raises:
        ValueError: where "native" was asked for, there is machine code of the rule, and it cannot be built.
    """
    if asked == "xla" or not _written(model, rule):
        return None
    if asked == "auto" and lane_steps * math.prod(model.space.shape) ** 2 < WORTH:
        return None
    try:
        _target(_settings(model, rule, np.dtype(dtype)))
    except NotBuilt as error:
        if asked == "native":
            raise ValueError(f"engine: expected 'auto' or 'xla', because {error}; got 'native'") from None
        _say(str(error))
        return None
    return steps


def _written(model: Any, rule: Any) -> bool:
    """Whether there is machine code: of W alone in dual coordinates, with independent tokens, and of some rules."""
    if jax.default_backend() != "cpu" or type(model) is not Attention or type(model.space) is not Dual:
        return False
    n, T = model.space.shape  # type: ignore[union-attr]
    known = _speaks_for(rule, "update") and rule.native and _speaks_for(model.loss, "slope") and model.loss.native
    return T > 1 and n * T <= LARGEST and bool(known)


def _speaks_for(thing: Any, method: str) -> bool:
    """Whether what a class says of its machine code is of its own method, and not of one that it has overridden."""
    owners = [next((c for c in type(thing).__mro__ if name in vars(c)), None) for name in ("native", method)]
    return owners[0] is not None and owners[0] is owners[1]


def _settings(model: Any, rule: Any, dtype: np.dtype) -> tuple[tuple[str, int | str], ...]:
    """What the source is compiled with."""
    n, T = model.space.shape
    settings = {"N": n, "T": T, "BITS": 8 * dtype.itemsize, "DISTINCT": int(model.scores.distinct)}
    settings |= {"MASKED": int(model.visible is not None), "LOSS": model.loss.native, "RULE": rule.native[0]}
    return tuple(sorted(settings.items()))


@functools.cache
def _target(settings: tuple[tuple[str, int | str], ...]) -> str:
    """The name that JAX knows machine code by, after it was built, if it was not, and made known."""
    name = "jaxsim_" + hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
    built = library(dict(settings) | {"NAME": name})
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(built[name]), platform="cpu")
    return name


@functools.cache
def _say(why: str) -> None:
    """Once for each reason."""
    warnings.warn(f"XLA runs, more slowly than machine code would: {why}", RuntimeWarning, stacklevel=2)

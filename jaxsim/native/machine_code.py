"""Which runs machine code can make, and the call that makes many steps of one."""

import functools
import hashlib
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxsim.coordinates import DualFrame, Frame
from jaxsim.driver import XLA, Engine, State
from jaxsim.model import Loss, token_scores
from jaxsim.model.gradient import Tree
from jaxsim.native.building import NotBuilt, library
from jaxsim.problem import Problem
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
        _target(_settings(carried[0].shape, dtype, scores.distinct, model.visible is not None, model.loss, rule)),
        [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in carried],
        input_output_aliases={k: k for k in range(len(carried))},
    )
    grams = gram.reshape(-1, *gram.shape[-2:])
    out = call(*carried, grams, model.space.size, scores.deficits, scores.best, visible, given, count)
    params, residual, memory = jax.tree.unflatten(shape, out)
    return State(params, memory), residual


def engine(
    asked: str, problem: Problem, frame: Frame, loss: Loss, rule: Rule, dtype: Any, lane_steps: float, far: bool = False
) -> Engine:
    """What makes the steps of W alone by machine code; None where XLA does.

    Args:
        asked: "xla", "native", or "auto" for the one that is done sooner.
        problem: the data.
        frame: its coordinates.
        loss: ℓ.
        rule: the rule.
        dtype: of the run.
        lane_steps: steps of all lanes together.

    Raises:
        ValueError: where "native" was asked for, there is machine code of the rule, and it cannot be built.
    """
    if asked == "xla" or not _written(problem, frame, loss, rule):
        return XLA
    if asked == "auto" and lane_steps * problem.visible.size**2 < WORTH:
        return XLA
    distinct = token_scores(problem, dtype).distinct
    try:
        _target(_settings(problem.visible.shape, dtype, distinct, problem.mask is not None, loss, rule))
    except NotBuilt as error:
        if asked == "native":
            raise ValueError(f"engine: expected 'auto' or 'xla', because {error}; got 'native'") from None
        _say(str(error))
        return XLA
    return steps


def _written(problem: Problem, frame: Frame, loss: Any, rule: Any) -> bool:
    """Whether there is machine code: in dual coordinates, with independent tokens, and of some rules and losses."""
    if jax.default_backend() != "cpu" or type(frame) is not DualFrame or frame.factored:
        return False
    known = _speaks_for(rule, "update") and rule.native and _speaks_for(loss, "slope") and loss.native
    return problem.visible.shape[1] > 1 and problem.visible.size <= LARGEST and bool(known)


def _speaks_for(thing: Any, method: str) -> bool:
    """Whether what a class says of its machine code is of its own method, and not of one that it has overridden."""
    owners = [next((c for c in type(thing).__mro__ if name in vars(c)), None) for name in ("native", method)]
    return owners[0] is not None and owners[0] is owners[1]


def _settings(
    shape: tuple[int, ...], dtype: Any, distinct: bool, masked: bool, loss: Any, rule: Any
) -> tuple[tuple[str, int | str], ...]:
    """What the source is compiled with."""
    kind = {"N": shape[0], "T": shape[1], "BITS": 8 * np.dtype(dtype).itemsize}
    what = {"DISTINCT": int(distinct), "MASKED": int(masked), "LOSS": loss.native, "RULE": rule.native[0]}
    return tuple(sorted((kind | what).items()))


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

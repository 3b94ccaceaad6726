"""Which runs machine code can make, and the calls that make the steps of one."""

import functools
import hashlib
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxsim.coordinates import DualFrame, Frame
from jaxsim.driver import XLA, Engine, State
from jaxsim.driver.interpolant import SPREAD, gauss
from jaxsim.driver.lanes import KNOWN, LONGEST, TOLERANCE, clock
from jaxsim.driver.leap import AIM, FASTER, HOVERS, LONG, MOST, SHORT, SLOWER
from jaxsim.model import Loss, token_scores
from jaxsim.model.sums import minus, rounded
from jaxsim.native.building import NotBuilt, library
from jaxsim.problem import Problem
from jaxsim.rules import Rule
from jaxsim.rules.base import Scheduled

ENGINES = ("auto", "xla", "native")
WORTH = 2 * 10**10  # multiplications of a run from which on building costs less than it saves
BURST = 64  # steps of a schedule in one call, so that their table stays in the second-level cache
LARGEST = 256  # tokens of all sequences together: their Gram matrix stays in the second-level cache


class MachineCode:
    """Steps of W alone by machine code: what XLA's programs do, up to rounding."""

    name = "native"

    def many(self, model, rule, state, residual, first, count):
        """See Engine."""
        carried, shape = jax.tree.flatten((state.params, residual, state.memory))
        call = _call(model, rule, "many", carried[0], carried, len(carried))
        known = _known(model, carried[0])

        def burst(k, carried):
            steps = first + k * BURST + jnp.arange(BURST, dtype=count.dtype)
            # One by one: in the digits of XLA's steps, where a schedule in float32 has few.
            given = lax.map(lambda step: _given(rule, carried[0], step), steps)
            return call(*carried, *known, given, jnp.minimum(count - k * BURST, BURST))

        if _varies(rule):
            carried = lax.fori_loop(jnp.zeros_like(count), (count + BURST - 1) // BURST, burst, carried)
        else:
            carried = call(*carried, *known, _given(rule, carried[0])[None], count)
        params, residual, memory = jax.tree.unflatten(shape, carried)
        return State(params, memory), residual

    def some(self, model, rule, state, first, counts):
        """See Engine."""
        carried, shape = _in_order(state)
        change = State(rounded(state.params), minus(state.memory, state.memory))
        call = _call(model, rule, "some", carried[0], [*carried, *jax.tree.leaves(change)], len(carried))
        out = call(*carried, *_known(model, carried[0]), _given(rule, carried[0]), counts)
        increments = jax.tree.unflatten(jax.tree.structure(change), out[len(carried) :])
        return _from_order(out[: len(carried)], shape), increments

    def leap(self, model, rule, lanes, marks):
        """See Engine."""
        state, shape = _in_order(lanes.state)
        past, past_shape = jax.tree.flatten(lanes.past)
        dtype = lanes.elapsed.dtype
        own = [getattr(lanes, name).astype(dtype) for name in _OWN]
        start, gap, going = clock(lanes, marks)
        carried = [*state, *past, *own]
        call = _call(model, rule, "leap", state[0], carried, len(carried))
        bits = jnp.finfo(dtype).bits
        points = jnp.asarray(np.stack(gauss(KNOWN[bits] + 1)), dtype)
        how = jnp.asarray([TOLERANCE[bits], SPREAD, SHORT, LONG, AIM, SLOWER, FASTER, LONGEST, HOVERS], dtype)
        fixed = (start, gap, lanes.stepped, (going & ~lanes.fast).astype(dtype))
        out = call(*carried, *fixed, *_known(model, state[0]), _given(rule, state[0]), points, how)
        past_at, own_at = len(state), len(state) + len(past)
        changed = dict(zip(_OWN, out[own_at:], strict=True))
        return lanes.but(
            **changed | {"fast": changed["fast"] > 0},
            state=_from_order(out[:past_at], shape),
            past=jax.tree.unflatten(past_shape, out[past_at:own_at]),
            ended=lanes.ended | (~jnp.isnan(changed["stuck"]) & jnp.isnan(lanes.stuck)),
        )


# What else of `Lanes` a leap changes, beside state and past.
_OWN = ("elapsed", "stretch", "fast", "leaps", "refused", "began", "error", "stuck")
MACHINE_CODE = MachineCode()


def _in_order(state: State) -> tuple[list[Array], Any]:
    """The arrays of a state as handlers are given them: parameters, what rounding has left out of them, memory."""
    (coeffs, lost_coeffs, logits, lost_logits, *memory), shape = jax.tree.flatten(state)
    return [coeffs, logits, lost_coeffs, lost_logits, *memory], shape


def _from_order(carried: list[Array], shape: Any) -> State:
    """The state of such arrays."""
    coeffs, logits, lost_coeffs, lost_logits, *memory = carried
    return jax.tree.unflatten(shape, (coeffs, lost_coeffs, logits, lost_logits, *memory))


def _known(model: Any, like: Array) -> list[Array]:
    """What every handler is given of the problem."""
    scores, gram = model.scores, model.space.gram
    visible = jnp.ones((*like.shape[:2], 1), bool) if model.visible is None else model.visible
    return [gram.reshape(-1, *gram.shape[-2:]), model.space.size, scores.deficits, scores.best, visible]


def _given(rule: Rule, like: Array, step: Any = None) -> Float[Array, "numbers lanes"]:
    """What every handler is given of the rule: its numbers, and the sizes of one step; see `Rule.native`."""
    _, numbers = rule.native  # type: ignore[misc]
    step = jnp.zeros((), jnp.int32) if step is None else step
    values = [number(step, like.dtype) if callable(number) else number for number in numbers]
    return jnp.stack([jnp.broadcast_to(jnp.asarray(value, like.dtype), like.shape[-1:]) for value in values])


def _varies(rule: Rule) -> bool:
    """Whether step sizes are schedules."""
    _, numbers = rule.native  # type: ignore[misc]
    return any(isinstance(number, Scheduled) for number in numbers)


def _call(model: Any, rule: Rule, work: str, like: Array, out: list[Array], aliased: int = 0) -> Any:
    """The call of a handler, whose results are shaped as `out`, so many of them in the place of its first arguments."""
    several, masked = model.space.gram.ndim > 2, model.visible is not None
    kind = _settings(like.shape, like.dtype, model.scores.distinct, masked, model.loss, rule, several)
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in out]
    return jax.ffi.ffi_call(_target(work, kind), shapes, input_output_aliases={k: k for k in range(aliased)})


def engine(
    asked: str,
    problem: Problem,
    frame: Frame,
    loss: Loss,
    rule: Rule,
    dtype: Any,
    lane_steps: float,
    far: bool = False,
    several: bool = False,
) -> Engine:
    """What makes the steps: machine code, or XLA.

    Args:
        asked: "xla", "native", or "auto" for the one that is done sooner.
        problem: the data.
        frame: its coordinates.
        loss: ℓ.
        rule: the rule.
        dtype: of the run.
        lane_steps: steps of all lanes together.
        far: whether lanes leap.
        several: whether the lanes of a block are of several problems.

    Raises:
        ValueError: where "native" was asked for, there is machine code of the rule, and it cannot be built.
    """
    if asked == "xla" or not _written(problem, frame, loss, rule) or far and _varies(rule):
        return XLA
    if asked == "auto" and lane_steps * problem.visible.size**2 < WORTH:
        return XLA
    distinct = token_scores(problem, dtype).distinct
    kind = _settings(problem.visible.shape, dtype, distinct, problem.mask is not None, loss, rule, several)
    try:
        for work in WORK if far else ("many",):
            _target(work, kind)
    except NotBuilt as error:
        if asked == "native":
            raise ValueError(f"engine: expected 'auto' or 'xla', because {error}; got 'native'") from None
        _say(str(error))
        return XLA
    return MACHINE_CODE


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
    shape: tuple[int, ...], dtype: Any, distinct: bool, masked: bool, loss: Any, rule: Any, several: bool
) -> tuple[tuple[str, int | str], ...]:
    """What the source is compiled with."""
    kind = {"N": shape[0], "T": shape[1], "BITS": 8 * np.dtype(dtype).itemsize}
    what = {
        "DISTINCT": int(distinct),
        "MASKED": int(masked),
        "SEVERAL": int(several),
        "LOSS": loss.native,
        "RULE": rule.native[0],
    }
    return tuple(sorted((kind | what).items()))


WORK = {"many": "steps.cpp", "some": "leaps.cpp", "leap": "leaps.cpp"}  # where its handler is


@functools.cache
def _target(work: str, settings: tuple[tuple[str, int | str], ...]) -> str:
    """The name that JAX knows machine code by, after it was built, if it was not, and made known."""
    source, defined = WORK[work], dict(settings)
    defined["EXACT"] = int(source == "leaps.cpp" or defined["BITS"] == 32)
    if source == "leaps.cpp":
        known = KNOWN[int(defined["BITS"])]
        defined |= {"KNOWN": known, "POINTS": len(gauss(known + 1)[0]), "MOST": MOST}
    name = "jaxsim_" + hashlib.sha256(repr((work, settings)).encode()).hexdigest()[:16]
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(library(source, defined)[work]), platform="cpu")
    return name


@functools.cache
def _say(why: str) -> None:
    """Once for each reason."""
    warnings.warn(f"XLA runs, more slowly than machine code would: {why}", RuntimeWarning, stacklevel=2)

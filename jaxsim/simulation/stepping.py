"""Whether lanes may leap in time: what rule, step sizes and model have to be for that."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsim import driver
from jaxsim._text import counted
from jaxsim.rules import Rule
from jaxsim.rules.base import Scheduled

STEPPING = ("auto", "every", "leap")
STEPPED = 10**6  # steps that lanes which keep their pace make in less time than it takes them to settle


def why_stepped(rule: Rule, train: Any = None) -> str | None:
    """Why every step has to be made; None where lanes may leap.

    Args:
        rule: the step-size rule.
        train: what is trained.
    """
    if rule.stepped_because:
        return f"{rule.name} is stepped: {rule.stepped_because}"
    if rule.keeps_pace and getattr(train, "unsteady", None):
        return f"{train.name} training is stepped under {rule.name}: {train.unsteady}"
    if getattr(train, "batch", None) is not None:
        return "minibatches are stepped: each step sees other sequences"
    for schedule in _schedules(rule):
        if not _smooth(schedule):
            return f"the schedule {schedule!r} is stepped: it is not a function of real step numbers"
    return None


def leaps(stepping: str, recorded: np.ndarray, rule: Rule, train: Any = None) -> bool:
    """Whether lanes leap, under what was asked for and to the horizon that was asked for.

    Raises:
        ValueError: where they cannot, and were asked to, or the horizon is out of reach of stepping.
    """
    horizon = recorded[-1]
    why = why_stepped(rule, train) if stepping != "every" else "every step was asked for"
    if why is not None and stepping == "leap":
        raise ValueError(f"stepping: expected 'auto' or 'every', because {why}; got 'leap'")
    if why is not None and horizon > driver.LARGEST_STEP:
        raise ValueError(f"steps: expected at most {driver.LARGEST_STEP}, because {why}; got {counted(horizon)}")
    stepped = STEPPED if rule.keeps_pace and stepping == "auto" else driver.leaps_from(rule)
    return why is None and horizon > stepped


FIRST, SOONER, LATER = 2_000, 10, 1_000  # the first horizon of an open end, and how much longer the next one is


def horizons(last: int, far: bool) -> list[int]:
    """Horizons to try one after the other, until nothing is open: ever longer ones, up to the last.

    Args:
        last: the longest horizon.
        far: whether lanes leap, to which the time between two horizons is nothing.
    """
    found, k = [], FIRST
    while k < last:
        found.append(k)
        k *= LATER if far else SOONER
    return [*found, last]


def _schedules(rule: Any) -> Iterator[Scheduled]:
    """The schedules of a rule and of those that it is made of."""
    for field in dataclasses.fields(rule) if dataclasses.is_dataclass(rule) else ():
        value = getattr(rule, field.name, None)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Scheduled):
                yield part
            elif hasattr(part, "update"):
                yield from _schedules(part)


def _smooth(schedule: Scheduled) -> bool:
    """Whether a schedule takes real step numbers, one per lane, and agrees there with what it says of whole ones."""
    whole = np.array([FIRST, 3 * FIRST, 10**6])
    try:
        at_whole = np.array([float(schedule(jnp.asarray(k, jnp.int32), np.float32)) for k in whole])
        at_real = np.asarray(schedule(jnp.asarray(whole, jnp.float32), np.float32))
        between = np.asarray(schedule(jnp.asarray(whole + 0.5, jnp.float32), np.float32))
    except Exception:  # a function of the user's
        return False
    sound = at_real.shape == between.shape == whole.shape and bool(np.isfinite(between).all())
    return sound and np.allclose(at_real, at_whole, rtol=1e-5) and np.allclose(between, at_whole, rtol=1e-2)

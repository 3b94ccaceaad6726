"""How to run, as one value: horizon and records, loss, dtype, coordinates, what to keep, limits, chunks."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypedDict

import jax
import numpy as np
from jaxtyping import Real

from jaxsim import driver
from jaxsim._check import one_of, step_number, whole_number
from jaxsim.analysis import Thresholds
from jaxsim.model import Loss, named
from jaxsim.native import ENGINES
from jaxsim.simulation.stepping import STEPPING

CHUNK_BYTES = 2**28
KEPT = ("coeffs", "logits")
LIMITS = ("all", "saturated", "none")


@dataclasses.dataclass(frozen=True, eq=False)
class Options:
    """The options of `simulate`, under their names there, checked; each function of its kind passes one of these on.

    Attributes:
        recorded: the recorded steps, ascending; the horizon is the last.
        loss, dtype, keep, thresholds: as they are used, whatever was given.

    Raises:
        ValueError: where one of them has the wrong type or value.
    """

    steps: int
    record: Sequence[int] | None = None
    loss: Any = "logistic"
    dtype: Any = None
    coordinates: Literal["dual", "primal", "full"] | None = None
    keep: Any = ()
    thresholds: Any = None
    limits: str = "all"
    chunk_bytes: int = CHUNK_BYTES
    chunk_lanes: int | None = None
    stepping: str = "auto"
    engine: str = "auto"
    recorded: Real[np.ndarray, " R"] = dataclasses.field(init=False)

    def __post_init__(self):
        one_of("stepping", self.stepping, STEPPING)
        one_of("engine", self.engine, ENGINES)
        real = run_dtype(self.dtype)
        at_most = driver.LARGEST_STEP if self.stepping == "every" else driver.LARGEST_HORIZON[real.name]
        steps = step_number("steps", self.steps)
        thresholds = Thresholds() if self.thresholds is None else self.thresholds
        used = {"steps": steps, "loss": named(self.loss), "dtype": real, "keep": _kept(self.keep)}
        used |= {"recorded": driver.record_steps(steps, self.record, at_most), "thresholds": thresholds}
        for name, value in used.items():
            object.__setattr__(self, name, value)
        if self.chunk_lanes is not None:
            whole_number("chunk_lanes", self.chunk_lanes)
        if self.limits not in LIMITS:
            raise ValueError(f"limits: expected 'all', 'saturated' or 'none'; got {self.limits!r}")
        if not isinstance(thresholds, Thresholds):
            raise ValueError(f"thresholds: expected a jaxsim.analysis.Thresholds; got {thresholds!r}")

    @property
    def held_below(self) -> float:
        """Lanes with a smaller attention gap are held against their limit."""
        return 0.0 if self.limits == "none" else self.thresholds.saturation


class OptionKeywords(TypedDict, total=False):
    """The options but for `steps`, as keywords."""

    record: Sequence[int] | None
    loss: str | Loss
    dtype: Any
    coordinates: Literal["dual", "primal", "full"] | None
    keep: Iterable[Literal["logits", "coeffs"]]
    thresholds: Thresholds | None
    limits: Literal["all", "saturated", "none"]
    chunk_bytes: int
    chunk_lanes: int | None
    stepping: Literal["auto", "every", "leap"]
    engine: Literal["auto", "xla", "native"]


def refuse(function: str, options: Any, *names: str) -> None:
    """Refuse options that a function does not take, as Python does."""
    for name in names:
        if name in options:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")


def run_dtype(dtype: Any) -> np.dtype:
    """The dtype of a run: as asked, or the widest that JAX has switched on."""
    enabled = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    real = np.dtype(dtype if dtype is not None else (np.float64 if enabled else np.float32))
    if real not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype: expected float32 or float64; got {real}")
    if real == np.float64 and not enabled:
        raise ValueError(
            "dtype: expected float32, because JAX has float64 switched off in this process; got float64. "
            'Switch it on before the first computation: jax.config.update("jax_enable_x64", True).'
        )
    return real


def _kept(keep: Iterable[str]) -> frozenset[str]:
    """The names of what to keep at every recorded step."""
    kept = frozenset({keep} if isinstance(keep, str) else keep)
    if not kept <= set(KEPT):
        raise ValueError(f"keep: expected 'logits' and 'coeffs'; got {sorted(kept - set(KEPT))}")
    return kept

"""What became of some lanes: one row each."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim._tree import pytree

# One number per lane and recorded step.
CURVES = ("direction_error", "log10_attention_gap", "log10_grad_norm", "log10_gap", "norm")


@pytree
class Lanes:
    """The fields of a `Run` that have lanes first; see there."""

    norm: Float[np.ndarray, "lanes R"]
    direction_error: Float[np.ndarray, "lanes R"]
    log10_grad_norm: Float[np.ndarray, "lanes R"]
    log10_gap: Float[np.ndarray, "lanes R"]
    log10_attention_gap: Float[np.ndarray, "lanes R"]
    final_logits: Float[np.ndarray, "lanes n T"]
    selection_number: Int[np.ndarray, " lanes"]
    start: Float[np.ndarray, "lanes size"]
    position: Float[np.ndarray, "lanes size"]
    outside: Float[np.ndarray, " lanes"]
    converged: Bool[np.ndarray, " lanes"]
    report: dict[str, np.ndarray]
    more: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    logits: Float[np.ndarray, "lanes R n T"] | None = None
    coeffs: Float[np.ndarray, "lanes R n T"] | None = None

    def fields(self) -> dict[str, Any]:
        """Its fields by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]


def joined(parts: Sequence[Lanes]) -> Lanes:
    """All lanes of several parts, in order."""
    return jax.tree.map(lambda *each: np.concatenate(each), *parts)

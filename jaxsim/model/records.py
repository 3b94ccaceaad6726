"""What models record at a step."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from jaxsim._tree import pytree


@pytree
class Records:
    """Natural logarithms and a position; the last axis runs over lanes on the device, the first on the host.

    Attributes:
        log_grad_norm: log ‖∇L‖.
        log_gap: log (L - L*).
        log_cancellation: log of ‖∇L‖ over the size of its terms; None where nobody asks.
        position: the vector from which the frame recovers the parameters.
        log_attention_gap: log max_i (1 - φ) of the largest weight; None where there is no attention.
        more: what else a model has to show, by name.
    """

    log_grad_norm: Float[Array | np.ndarray, "..."]
    log_gap: Float[Array | np.ndarray, "..."]
    position: Float[Array | np.ndarray, "..."]
    log_cancellation: Float[Array | np.ndarray, "..."] | None = None
    log_attention_gap: Float[Array | np.ndarray, "..."] | None = None
    more: dict[str, Any] = dataclasses.field(default_factory=dict)

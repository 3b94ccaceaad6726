"""The final W of a lane, as a whole matrix."""

from typing import Any

import numpy as np
from jaxtyping import Float


def start_left(run: Any) -> float:
    """How much weight decay has left of W_0 at the end: p in W = p W_0 + Σ_it c_it x_it z_iᵀ."""
    return run.settings.get("start_left", 1.0)


def final_weights(run: Any, lane: int) -> Float[np.ndarray, "d e"]:
    """What `Run.W` gives."""
    if not 0 <= lane < run.lanes:
        raise ValueError(f"lane: expected 0 to {run.lanes - 1}; got {lane}")
    if "K" in run.more:
        return run.more["K"][lane] @ run.more["Q"][lane].T
    frame = run.frame
    inside = frame.lift(run.position[lane])
    if run.outside[lane] == 0:
        return inside
    given, own = run.settings.get("given"), run.first + lane
    if given is not None:
        weights = run.settings.get("given_weights")
        outside = given[own if len(given) > 1 else 0] if weights is None else np.tensordot(weights[own], given, 1)
        return inside + start_left(run) * outside
    other = np.random.default_rng([*run.settings["key"], own]).standard_normal(run.problem.W_shape)
    other -= frame.lift(frame.project(other[None])[0][0])
    return inside + other * (start_left(run) * np.sqrt(run.outside[lane] / np.sum(other**2)))

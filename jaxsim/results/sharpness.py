"""How sharp the loss is along a run that has kept its logits."""

from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsim.analysis import log10_sharpness
from jaxsim.model import LOSSES, Loss


def sharpness_of(run: Any, loss: Loss | None) -> Float[np.ndarray, "lanes R"]:
    """What `Run.sharpness` gives."""
    train, name = run.settings.get("train", "weights"), run.settings["loss"]
    if train != "weights":
        raise ValueError(f"sharpness: expected a run of W alone; got one of {train}")
    if run.logits is None:
        raise ValueError("sharpness: expected a run with keep=('logits',); this one has not kept them")
    known = loss or LOSSES.get(name)
    if known is None:
        raise ValueError(f"loss: expected the loss of the run, {name}; got None")
    return log10_sharpness(run.problem, run.logits, known)

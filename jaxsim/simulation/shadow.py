"""Shadows: beside every lane one that starts a little apart, and how far apart the two end."""

import copy
import dataclasses
from typing import Any

import numpy as np

from jaxsim.results import Run
from jaxsim.simulation.work import Work

APART = {64: 1e-12, 32: 1e-5}  # of starts, relative to the largest entry of the start vector, or to 1


def shadowed(work: Work, run: Run) -> Run:
    """The run with two more columns in its report, from a second run of all lanes.

    `amplification`: how far apart the logits of lane and shadow end, relative to the largest of them or to 1, over how
    far apart they began; below 1 where the dynamics forget. `chaotic`: 1 where the shadow has another selection or
    another verdict, which are then of rounding as much as of the start (conventions of this project).
    """
    twin = copy.copy(work)
    twin.apart = APART[np.finfo(work.options.dtype).bits]
    twin.options = dataclasses.replace(work.options, keep=())
    end = twin.run()
    with np.errstate(invalid="ignore"):
        distance = np.abs(end.final_logits - run.final_logits).max((1, 2))
        amplification = distance / np.maximum(np.abs(run.final_logits).max((1, 2)), 1.0) / twin.apart
    other = (end.selection != run.selection).any(1) | (end.verdict != run.verdict)
    columns: dict[str, Any] = {"amplification": amplification, "chaotic": other.astype(float)}
    return dataclasses.replace(run, report=run.report | columns)

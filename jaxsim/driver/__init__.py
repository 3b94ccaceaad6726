"""The driver: steps, records, blocks, chunks and devices, for any model and any rule."""

from jaxsim.driver.batch import Chunk, Plan, Start, compilations, plan, run
from jaxsim.driver.schedule import LARGEST_HORIZON, LARGEST_STEP, leaps_from, record_steps
from jaxsim.driver.trajectory import Engine, Model, State

__all__ = [
    "LARGEST_HORIZON", "LARGEST_STEP", "Chunk", "Engine", "Model", "Plan", "Start", "State",
    "compilations", "leaps_from", "plan", "record_steps", "run",
]  # fmt: skip

"""The driver: steps, records, blocks, chunks and devices, for any model and any rule."""

from jaxsim.driver.batch import Chunk, Plan, Start, compilations, plan, run
from jaxsim.driver.schedule import LARGEST_HORIZON, LARGEST_STEP, LEAPS_FROM, record_steps
from jaxsim.driver.trajectory import Engine, Model, State

__all__ = [
    "LARGEST_HORIZON", "LARGEST_STEP", "LEAPS_FROM", "Chunk", "Engine", "Model", "Plan", "Start", "State",
    "compilations", "plan", "record_steps", "run",
]  # fmt: skip

"""The driver: steps, records, blocks, chunks and devices, for any model and any rule."""

from jaxsim.driver.batch import Chunk, Plan, Start, compilations, plan, run
from jaxsim.driver.engine import XLA, Engine
from jaxsim.driver.schedule import LARGEST_HORIZON, LARGEST_STEP, LEAPS_COST, leaps_from, record_steps
from jaxsim.driver.steps import Model, State

__all__ = [
    "LARGEST_HORIZON", "LARGEST_STEP", "LEAPS_COST", "XLA", "Chunk", "Engine", "Model",
    "Plan", "Start", "State", "compilations", "leaps_from", "plan", "record_steps", "run",
]  # fmt: skip

"""The driver: steps, records, blocks, chunks and devices, for any model and any rule."""

from jaxsim.driver.batch import Plan, compilations, plan, run_chunks
from jaxsim.driver.schedule import LARGEST_STEP, record_steps
from jaxsim.driver.step import Model

__all__ = ["LARGEST_STEP", "Model", "Plan", "compilations", "plan", "record_steps", "run_chunks"]

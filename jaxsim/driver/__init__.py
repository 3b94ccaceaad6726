"""The driver: steps, records, blocks, chunks and devices, for any model and any rule."""

from jaxsim.driver.advance import Model
from jaxsim.driver.lanes import Plan, compilations, plan, run_chunks
from jaxsim.driver.schedule import LARGEST_STEP, record_steps

__all__ = ["LARGEST_STEP", "Model", "Plan", "compilations", "plan", "record_steps", "run_chunks"]

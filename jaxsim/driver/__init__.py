"""The driver: steps, records, blocks, chunks and devices, for any model and any rule."""

from jaxsim.driver.advance import Model
from jaxsim.driver.lanes import Plan, compilations, plan, run_chunks
from jaxsim.driver.schedule import record_steps

__all__ = ["Model", "Plan", "compilations", "plan", "record_steps", "run_chunks"]

"""A second engine for the driver's inner loop: many steps in one call of machine code, on CPUs.

XLA runs everything, everywhere, and is the reference. This engine runs W alone with a fixed decoder, in dual
coordinates, under some rules, at 1.5 to 2 times the speed, with trajectories equal up to rounding.
"""

from jaxsim.native.building import NotBuilt, has_compiler
from jaxsim.native.machine_code import ENGINES, engine

__all__ = ["ENGINES", "NotBuilt", "engine", "has_compiler"]

"""Problems to simulate: random families with known geometry, real digits, and files."""

from jaxsim.data.digits import digits
from jaxsim.data.files import load, save
from jaxsim.data.synthetic import orthonormal, prompt, signal_noise, unit_sphere

__all__ = ["digits", "load", "orthonormal", "prompt", "save", "signal_noise", "unit_sphere"]

"""Problems to simulate: random families with known geometry, real digits, and files."""

from jaxsim.data.files import load, load_split, save
from jaxsim.data.images import digits, digits_split
from jaxsim.data.synthetic import orthonormal, prompt, signal_noise, unit_sphere

__all__ = [
    "digits",
    "digits_split",
    "load",
    "load_split",
    "orthonormal",
    "prompt",
    "save",
    "signal_noise",
    "unit_sphere",
]

"""Problems to simulate: random families with known geometry, real digits, and files."""

from jaxsim._registry import Registry
from jaxsim.data.contract import check_family
from jaxsim.data.files import load, load_split, save
from jaxsim.data.images import digits, digits_split
from jaxsim.data.label_noise import label_noise
from jaxsim.data.next_token import next_token, token_labels
from jaxsim.data.synthetic import generator, orthonormal, prompt, signal_noise, unit_sphere

FAMILIES = Registry("data", "jaxsim.data", check_family, reserved=("file",), noun="data family")
for _family in (digits, orthonormal, signal_noise, unit_sphere, next_token, label_noise):
    FAMILIES.register(_family)

__all__ = [
    "FAMILIES",
    "digits",
    "digits_split",
    "generator",
    "label_noise",
    "load",
    "load_split",
    "next_token",
    "orthonormal",
    "prompt",
    "save",
    "signal_noise",
    "token_labels",
    "unit_sphere",
]

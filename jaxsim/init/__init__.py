"""Initialisation laws of W_0, drawn in reduced coordinates, and starts given as arrays.

A law on the whole d × d space reduces to its coordinates ξ on an orthonormal basis of the row space of Φ (r
numbers) and the squared norm of the rest, so a start at d = 4096 costs what one at d = 64 does.
"""

from jaxsim._tree import pytree
from jaxsim.init.drawing import draw, draw_each, draw_factors
from jaxsim.init.given import Factors, Fixed, Given, Reduced, Span
from jaxsim.init.laws import LAWS, Gaussian, Law, Sphere, Zero

__all__ = [
    "LAWS", "Factors", "Fixed", "Gaussian", "Given", "Law", "Reduced", "Span", "Sphere", "Zero",
    "draw", "draw_each", "draw_factors", "pytree",
]  # fmt: skip

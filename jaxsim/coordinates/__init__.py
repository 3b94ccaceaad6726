r"""Exact coordinates for W: the dynamics need n·T or r_x·r_z numbers per run, never d × d.

With Φ the N × d² matrix of rows vec(x_it z_iᵀ), N = n·T, every rule that moves W by combinations of gradients
stays in W_0 + span(Φᵀ). Two isometric descriptions of that span, the cheaper one chosen per problem:

    dual    W = W_0 + Φᵀ c, carried as logits a and coefficients c; one product with K = ΦΦᵀ a step
    primal  the core U_xᵀ W U_z (r_x × r_z) on orthonormal bases of the tokens and of the queries

Σ_t g_it = 0 in every sequence, so the device works with tokens less their sequence's mean (`rows`): nothing changes
but the rounding, which a large common part would spoil. A frame holds the float64 host side: bases,
projections, lifts. Its `space(dtype)` is what runs on the device. Both describe W by Euclidean coordinates ξ:
|ξ| is the Frobenius norm of the part of W inside the span.
"""

from jaxsim.coordinates.base import Entry, Frame, Params, Space, as_device, host
from jaxsim.coordinates.choice import frame_of, least_norm_coefficients
from jaxsim.coordinates.dual import Dual, DualEntry, DualFrame, Factored
from jaxsim.coordinates.full import FullFrame
from jaxsim.coordinates.primal import Primal, PrimalEntry, PrimalFrame

__all__ = [
    "Dual", "DualEntry", "DualFrame", "Entry", "Factored", "Frame", "FullFrame", "Params", "Primal", "PrimalEntry",
    "PrimalFrame", "Space", "as_device", "frame_of", "host", "least_norm_coefficients",
]  # fmt: skip

"""Models: what a rule minimises. Reduced coordinates, scaled gradients, losses."""

from jaxsim.model.fixed_decoder import Attention, attention, stacked
from jaxsim.model.frames import Frame, frame_of
from jaxsim.model.gradient import Block, Gradient
from jaxsim.model.losses import LOSSES, Loss, named

__all__ = ["LOSSES", "Attention", "Block", "Frame", "Gradient", "Loss", "attention", "frame_of", "named", "stacked"]

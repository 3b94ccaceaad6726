"""Models: what a rule minimises. Scaled gradients, losses, what is recorded."""

from jaxsim.model.fixed_decoder import Attention, attention, stacked, token_scores
from jaxsim.model.gradient import Block, Gradient
from jaxsim.model.losses import LOSSES, Loss, named, positive

__all__ = [
    "LOSSES",
    "Attention",
    "Block",
    "Gradient",
    "Loss",
    "attention",
    "named",
    "positive",
    "stacked",
    "token_scores",
]

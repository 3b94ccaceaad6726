"""What to train: `simulate(..., train=...)`."""

from jaxsim.simulation.factors import KeyQuery
from jaxsim.simulation.train import Joint, Train, Weights

__all__ = ["Joint", "KeyQuery", "Train", "Weights"]

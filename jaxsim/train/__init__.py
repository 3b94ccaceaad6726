"""What to train: `simulate(..., train=...)`."""

from jaxsim.train.base import Train, View
from jaxsim.train.joint import Joint
from jaxsim.train.key_query import KeyQuery
from jaxsim.train.weights import WEIGHTS, Weights

__all__ = ["WEIGHTS", "Joint", "KeyQuery", "Train", "View", "Weights"]

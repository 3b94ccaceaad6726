"""What to train: `simulate(..., train=...)`."""

from jaxsim.train.base import OfW, Train, View, each_once
from jaxsim.train.joint import Joint
from jaxsim.train.key_query import KeyQuery
from jaxsim.train.starts import Drawing, Known
from jaxsim.train.weights import WEIGHTS, Weights

__all__ = ["WEIGHTS", "Drawing", "Joint", "KeyQuery", "Known", "OfW", "Train", "View", "Weights", "each_once"]

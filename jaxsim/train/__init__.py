"""What to train: `simulate(..., train=...)`."""

from jaxsim._registry import Registry
from jaxsim.train.base import OfW, Train, View, each_once
from jaxsim.train.contract import check_class
from jaxsim.train.heads import Heads
from jaxsim.train.joint import Joint
from jaxsim.train.key_query import KeyQuery
from jaxsim.train.starts import Drawing, Known
from jaxsim.train.weights import WEIGHTS, Weights

KINDS = Registry("train", "jaxsim.train", check_class, noun="trained thing")
for _kind in (Weights, Joint, KeyQuery, Heads):
    KINDS.register(_kind)

__all__ = [
    "KINDS", "WEIGHTS", "Drawing", "Heads", "Joint", "KeyQuery", "Known", "OfW", "Train", "View", "Weights",
    "each_once",
]  # fmt: skip

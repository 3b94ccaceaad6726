"""What to train: `simulate(..., train=...)`."""

from jaxsim._registry import Registry
from jaxsim.train.base import Train, View
from jaxsim.train.contract import check_class
from jaxsim.train.joint import Joint
from jaxsim.train.key_query import KeyQuery
from jaxsim.train.weights import WEIGHTS, Weights

KINDS = Registry("train", "jaxsim.train", check_class, noun="trained thing")
for _kind in (Weights, Joint, KeyQuery):
    KINDS.register(_kind)

__all__ = ["KINDS", "WEIGHTS", "Joint", "KeyQuery", "Train", "View", "Weights"]

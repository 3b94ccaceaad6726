"""What a trained thing is held against when it is registered."""

from typing import Any

from jaxsim._registry import called, needs
from jaxsim.train.base import Train

METHODS = tuple(name for name, value in vars(Train).items() if callable(value) and not name.startswith("_"))


def check_class(train: Any) -> None:
    """Refuse a class whose objects could not be trained, and name what is missing; see `jaxsim.train.Train`.

    The arguments of the class are plain values with types in their annotations, from which studies and commands take
    them. `batch` and `key` are the sequences of a step and the JAX key of their order, `width` the inner width of a
    head. `name` is what commands and studies call it, by default the name of the class with dashes.

    Raises:
        ValueError: where something is missing.
    """
    if not isinstance(train, type):
        raise ValueError(f"train: expected the class of a trained thing, such as jaxsim.train.Joint; got {train!r}")
    needs("train", train, *METHODS, noun="trained thing")
    for name in getattr(Train, "__annotations__", {}):
        if not hasattr(train, name):
            raise ValueError(f"train: {called(train)} has no {name}; see jaxsim.train.Train and CONTRIBUTING.md")

"""W alone, with the decoder of the problem."""

import dataclasses
from typing import Any, ClassVar

from jaxsim._check import random_key, whole_number
from jaxsim.model import attention
from jaxsim.model.minibatch import Minibatch
from jaxsim.problem import Problem
from jaxsim.train.base import OfW


@dataclasses.dataclass(frozen=True, eq=False)
class Weights(OfW):
    """W is trained, the decoder of the problem is fixed.

    Args:
        batch: sequences per step, from 1 to n; None for all of them (full-batch descent). Batches come from a new
            random order of the sequences in every epoch, the same for all lanes (convention of this project).
        key: the JAX key of the batch order; needed where `batch` is given.
    """

    batch: int | None = None
    key: Any = dataclasses.field(default=None, repr=False)

    name: ClassVar[str] = "weights"

    def check(self, problem, loss, init):
        """Starts are matrices, and batches no larger than the data."""
        super().check(problem, loss, init)
        check_batch(problem, self.batch, self.key)

    def model(self, problem, frame, loss, dtype):
        """Attention with a fixed decoder, on all sequences or on batches."""
        return on_batches(attention(problem, frame, loss, dtype), problem, self.batch, self.key)


WEIGHTS = Weights()


def check_batch(problem: Problem, batch: int | None, key: Any) -> None:
    """Refuse batches larger than the data, and batches without a key."""
    if batch is None:
        return
    n = len(problem.labels)
    if whole_number("batch", batch) > n:
        raise ValueError(f"batch: expected at most n = {n} sequences; got {batch}")
    random_key("train.key", key)


def on_batches(model: Any, problem: Problem, batch: int | None, key: Any) -> Any:
    """The model on all sequences, or on batches of them."""
    return model if batch is None else Minibatch(model, key, len(problem.labels), batch)

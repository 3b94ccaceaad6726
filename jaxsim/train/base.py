"""What can be trained: how it starts, what runs on the device, and what it adds to a result."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from jaxtyping import Int

from jaxsim.model import Frame, Loss
from jaxsim.problem import Problem

LOG10 = np.log(10.0)


class Train(Protocol):
    """What is trained."""

    coordinates: ClassVar[Literal["primal"] | None]  # what it needs; None: either

    def check(self, problem: Problem, loss: Loss, init: Any) -> None:
        """Refuse what does not fit the problem."""
        ...

    def model(self, problem: Problem, frame: Frame, loss: Loss, dtype: Any) -> Any:
        """The model on the device."""
        ...

    def start(self, problem: Problem, frame: Frame, start: Any) -> Any:
        """Start vectors (…, p) of the model from those of W."""
        ...

    def numbers(self, problem: Problem, frame: Frame) -> int:
        """The largest array that a lane carries."""
        ...

    def locate(self, frame: Frame, start: np.ndarray, outside: np.ndarray, position: np.ndarray) -> tuple[Any, Any]:
        """ξ (lanes, R, size) and ‖W outside‖² (lanes, R or 1) from recorded positions."""
        ...

    def columns(self, view: "View") -> dict[str, np.ndarray]:
        """Further columns of the table, from records that W alone does not explain."""
        ...


@dataclasses.dataclass(frozen=True)
class View:
    """What is known of some lanes after a run."""

    problem: Problem
    frame: Frame
    records: dict[str, np.ndarray]
    outside: np.ndarray
    selection: np.ndarray
    columns: dict[str, np.ndarray]
    solved: dict[Any, Any]  # limits found in earlier chunks, by selection


def each_once(
    selection: Int[np.ndarray, "lanes n"], solved: dict[Any, Any], solve: Callable[[np.ndarray], Any]
) -> tuple[list[Any], Int[np.ndarray, " lanes"]]:
    """What `solve` gives for every distinct selection, unless already solved; and which of these each lane has."""
    distinct, inverse = np.unique(selection, axis=0, return_inverse=True)
    for alpha in distinct:
        if tuple(alpha) not in solved:
            solved[tuple(alpha)] = solve(alpha)
    return [solved[tuple(alpha)] for alpha in distinct], inverse.ravel()

"""What can be trained: where it starts, what runs on the device, and what it adds to a result."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from jaxtyping import Float, Int

from jaxsim.coordinates import Frame
from jaxsim.driver import Start
from jaxsim.model import Loss
from jaxsim.model.records import Records
from jaxsim.problem import Problem
from jaxsim.train import tested
from jaxsim.train.starts import Drawing, Known, of_matrices

LOG10 = np.log(10.0)


@dataclasses.dataclass(frozen=True)
class View:
    """What is known of some lanes after a run, from which a trained thing computes what it adds.

    Attributes:
        problem: the data.
        frame: the coordinates of the run.
        records: on the host, (lanes, R, …) each.
        known: where the lanes began.
        selection: their final selections.
        norm: ‖W_k‖, (lanes, R).
        unit: directions of their limits in ξ, NaN where there is none.
        solved: limits found in earlier chunks, by selection; see `each_once`.
    """

    problem: Problem
    frame: Frame
    records: Records
    known: Known
    selection: Int[np.ndarray, "lanes n"]
    norm: np.ndarray
    unit: Float[np.ndarray, "lanes size"]
    solved: dict[Any, Any]


class Train(Protocol):
    """What is trained. `OfW` has defaults for all of it but the model, for what trains W and perhaps more.

    Attributes:
        name: the short name used in settings and on the command line.
        coordinates: what it needs; None for any.
        curves: what it adds at every recorded step, (lanes, R) each: names and short headings for tables, empty where a
            table has no row for it.
        unsteady: why increments of a fixed length never settle, in a sentence; None where they may.
        finals: what else it adds: names and axes, of which the first is "lanes". A `final_scores` takes the place of
            the problem's scores in verdicts; `K` and `Q` make W = K Qᵀ.
    """

    name: ClassVar[str]
    coordinates: ClassVar[Literal["primal"] | None]
    curves: ClassVar[Mapping[str, str]]
    finals: ClassVar[Mapping[str, str]]
    unsteady: ClassVar[str | None]

    def check(self, problem: Problem, loss: Loss, init: Any) -> None:
        """Refuse what does not fit the problem."""
        ...

    def lift(self, problem: Problem) -> Problem:
        """The problem whose W is trained, which is that of the result: the one given, or one made of it.

        What it makes is its own: lift(lift(problem)) is lift(problem).
        """
        ...

    def margins(self, problem: Problem) -> Float[np.ndarray, "..."]:
        """Numbers between which margins lie, such as all token scores."""
        ...

    def model(self, problem: Problem, frame: Frame, loss: Loss, dtype: Any) -> Any:
        """The model on the device; see `jaxsim.driver.Model`."""
        ...

    def starts(self, how: Drawing, init: Any, problem: Problem, frame: Frame) -> Iterator[Start]:
        """The starts of every chunk of the plan, with a `Known` beside them."""
        ...

    def numbers(self, problem: Problem, frame: Frame) -> int:
        """The largest array that a lane carries."""
        ...

    def locate(self, frame: Frame, known: Known, position: np.ndarray) -> tuple[Any, Any]:
        """ξ (lanes, R, size) and ‖W outside‖² (lanes, R or 1) from recorded positions."""
        ...

    def columns(self, view: View) -> dict[str, np.ndarray]:
        """What it adds to the lanes, under the names of `curves` and `finals`."""
        ...


class OneHead:
    """One head, on the problem as it is given."""

    def lift(self, problem: Problem) -> Problem:
        """The problem itself."""
        return problem

    def margins(self, problem: Problem) -> Float[np.ndarray, "..."]:
        """Token scores."""
        return problem.scores[problem.visible]


class OfW(OneHead):
    """Training of W, and perhaps of more, from starts of W: what all such things share."""

    coordinates: ClassVar[Literal["primal"] | None] = None
    curves: ClassVar[Mapping[str, str]] = {}
    finals: ClassVar[Mapping[str, str]] = {}
    unsteady: ClassVar[str | None] = None

    def check(self, problem: Problem, loss: Loss, init: Any) -> None:
        """Starts are matrices."""
        if hasattr(init, "K0"):
            raise ValueError(
                "init: Factors start K and Q; expected a law of W_0, or train=jaxsim.train.KeyQuery(width)"
            )

    def starts(self, how: Drawing, init: Any, problem: Problem, frame: Frame) -> Iterator[Start]:
        """Those of W, as `start` completes them."""
        for start in of_matrices(how, init, frame):
            yield dataclasses.replace(start, vectors=self.start(problem, frame, start.vectors))

    def start(self, problem: Problem, frame: Frame, vectors: Any) -> Any:
        """Start vectors (…, p) of the model from those of W."""
        return vectors

    def numbers(self, problem: Problem, frame: Frame) -> int:
        """Logits or core."""
        return max(frame.size, problem.labels.size * problem.shape[1])

    def locate(self, frame: Frame, known: Known, position: np.ndarray) -> tuple[Any, Any]:
        """The part outside never moves; under weight decay it shrinks, as the whole start does."""
        left = known.left(0)
        return frame.locate(known.xi[:, None] * left[:, None], position), known.outside[:, None] * left**2

    def decoders_of(self, view: View) -> Float[np.ndarray, "lanes R d"] | None:
        """The decoder of every lane at every recorded step; None where it is that of the problem."""
        return None

    def columns(self, view: View) -> dict[str, np.ndarray]:
        """Accuracy on training and test sequences, where the problem has tests."""
        if view.problem.test is None:
            return {}
        xi, _ = self.locate(view.frame, view.known, np.asarray(view.records.position, np.float64))
        return tested.accuracies(view.problem, view.frame, xi, self.decoders_of(view))


def each_once(
    selection: Int[np.ndarray, "lanes n"], solved: dict[Any, Any], solve: Callable[[np.ndarray], Any]
) -> tuple[list[Any], Int[np.ndarray, " lanes"]]:
    """What `solve` gives for every distinct selection, unless already solved; and which of these each lane has."""
    distinct, inverse = np.unique(selection, axis=0, return_inverse=True)
    for alpha in distinct:
        if tuple(alpha) not in solved:
            solved[tuple(alpha)] = solve(alpha)
    return [solved[tuple(alpha)] for alpha in distinct], inverse.ravel()

"""Problem, rule, start and sizes, held against each other: messages name the argument, what was expected, what came."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsim import _machine
from jaxsim._check import random_key, whole_number
from jaxsim._numbers import one_each
from jaxsim.init import Factors, Fixed, Law
from jaxsim.model import Loss, named, positive
from jaxsim.problem import Problem, check_problem
from jaxsim.results import CURVES
from jaxsim.rules import check_rule
from jaxsim.train import WEIGHTS, Train

LARGEST_SCORE = {"float32": 80.0, "float64": 700.0}  # e^-s stays a normal number
LARGEST_SLOPE = {"float32": 1e15, "float64": 1e150}  # of a loss without exponentials: its square stays a number
LARGEST_PRODUCT = {"float32": 1e15, "float64": 1e150}  # of a token and a query: its square stays a number
LARGEST_LANE = 2**32  # lane indices are 32-bit words of fold_in


def check(
    problem: Problem,
    init: Law | Fixed,
    lanes: int,
    loss: str | Loss,
    train: Train = WEIGHTS,
    first: int = 0,
) -> int:
    """Lanes as an integer, or the ValueError that `simulate` would raise for these arguments."""
    lanes = whole_number("lanes", lanes)
    end = whole_number("first", first, at_least=0) + lanes
    if end > LARGEST_LANE:
        raise ValueError(f"lanes: expected first + lanes at most 2^32; got {end}")
    named(loss)
    if isinstance(train, type) or not hasattr(train, "columns"):
        raise ValueError(f"train: expected what to train, such as jaxsim.train.Joint(); got {train!r}")
    train.check(problem, named(loss), init)
    if isinstance(init, Fixed):
        init.check(end, train.lift(problem).W_shape)
    return lanes


def check_types(problem: Any, rule: Any, init: Any, key: Any) -> None:
    """Refuse what is not a problem, a rule, a law or a key."""
    check_problem(problem)
    check_rule(rule)
    if isinstance(init, type) or not (hasattr(init, "place") or isinstance(init, Fixed | Factors)):
        raise ValueError(f"init: expected a law such as jaxsim.init.Gaussian(1.0); got {init!r}")
    one_each("init", init)
    random_key("key", key)


def _check_positive(problem: Problem, least: float, loss: Loss, real: np.dtype) -> None:
    """Refuse scores that may make a margin negative or, beside much larger ones, one without digits."""
    seen = np.where(problem.visible, problem.scores, 0.0)
    best, digits = seen.max(1, keepdims=True), 1e5 * np.finfo(real).eps
    if least < 0 or not best.all():
        raise ValueError(
            f"loss: {loss.name} needs token scores of at least 0, one of every sequence above; they start from "
            f"{least:.4g}. jaxsim.data.token_labels makes such problems."
        )
    if ((seen > 0) & (seen < digits * best)).any():
        raise ValueError(
            f"loss: {loss.name} needs token scores that are 0, or at least {digits:.1g} of the best in their sequence "
            f"in {real}; got less"
        )


def check_range(problem: Problem, margins: Float[np.ndarray, "..."], loss: Loss, real: np.dtype) -> None:
    """Refuse margins at which differences of the loss leave the range of the dtype."""
    if positive(loss):
        _check_positive(problem, margins.min(), loss, real)
    largest = {"logistic": margins.max(), "exponential": np.abs(margins).max()}.get(loss.name, 0.0)
    bound = LARGEST_SCORE[real.name]
    if loss.name == "linear":
        largest, bound = np.abs(margins).max(), LARGEST_SLOPE[real.name]
    if largest > bound:
        raise ValueError(
            f"decoder: token scores reach {largest:.4g}, where the {loss.name} loss leaves the range of {real}; "
            f"expected at most {bound:g}. Scale the decoder down" + ("." if real == np.float64 else ", or use float64.")
        )
    size, by = np.abs(problem.keys[problem.visible]).max(), np.abs(problem.queries).max()
    bound = LARGEST_PRODUCT[real.name]
    if size * by > 0 and not 1 / bound < size * by < bound:
        name = "tokens" if abs(np.log(size)) >= abs(np.log(by)) else "queries"
        raise ValueError(
            f"{name}: products of tokens and queries reach {size * by:.4g}, whose square leaves the range of {real}; "
            f"expected from {1 / bound:g} to {bound:g}. Scale the {name}, or use float64."
        )


def check_kept(
    problem: Problem, lanes: int, records: int, kept: Iterable[str] = (), runs: int = 1, more: int = 0
) -> None:
    """Refuse lanes whose results cannot be held in memory together, before any of them is run.

    Args:
        problem: the data.
        lanes: lanes of a run.
        records: recorded steps R.
        kept: what is kept at every recorded step besides the curves.
        runs: runs that are held together.
        more: further numbers of a lane.
    """
    n, T, _ = problem.shape
    numbers = len(CURVES) * records + n * T * (1 + records * len(tuple(kept))) + more
    together = f" of {runs} runs" if runs > 1 else ""
    _machine.need(
        "lanes", 8 * lanes * runs * numbers, f"{lanes:,} lanes{together} with {numbers:,} numbers each",
        "; jaxsim.survey runs any number of lanes, and keeps counts",
    )  # fmt: skip

"""Where a fraction of lanes crosses a level: the value of one parameter, with an interval that allows for searching."""

import dataclasses
import math
from collections.abc import Callable
from typing import Unpack

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxsim._check import finite_number, one_of, open_share, positive_number, whole_number
from jaxsim.analysis import VERDICTS, anytime_bounds
from jaxsim.init import Law
from jaxsim.problem import Problem
from jaxsim.rules import Rule
from jaxsim.simulation.one_problem import simulate
from jaxsim.simulation.options import OptionKeywords

FIRST = 100  # lanes of a first look at a value
MORE = 1.5  # by what factor they become more
ROUNDS = 6 / math.pi**2  # Σ 1/k² of all rounds together is 1

Case = Callable[[float], tuple[Problem, Rule, Law]]


@dataclasses.dataclass(frozen=True)
class Crossing:
    """Between which two values a fraction crosses a level.

    Attributes:
        low, high: the interval. With probability `confidence` the fractions at its ends lie on different sides of the
            level; so, where the fraction is continuous in the parameter, it crosses the level in between.
        rises: whether the fraction is above the level at `high`.
        settled: whether the interval is as narrow as asked for; if not, the fractions at its thirds are too near to
            the level for as many lanes as were allowed.
        values: all values that were looked at, in that order.
        counts: lanes with the verdict there.
        lanes: lanes there.
        level, confidence: as asked for.
    """

    low: float
    high: float
    rises: bool
    settled: bool
    values: Float[np.ndarray, " K"]
    counts: Int[np.ndarray, " K"]
    lanes: Int[np.ndarray, " K"]
    level: float
    confidence: float


def crossing(
    case: Case,
    low: float,
    high: float,
    *,
    key: jax.Array,
    steps: int,
    width: float,
    level: float = 0.5,
    verdict: str = "global",
    confidence: float = 0.95,
    max_lanes: int = 10_000,
    logarithmic: bool = False,
    **options: Unpack[OptionKeywords],
) -> Crossing:
    """The value of a parameter at which the fraction of lanes with a verdict crosses a level.

    Values on both sides of where the crossing seems to be are looked at, with ever more lanes, until a confidence
    sequence (`jaxsim.analysis.anytime_bounds`) leaves the level to one side. Errors sum to 1 - confidence over all
    values that may ever be looked at, and lanes of different values are drawn independently, so the interval is valid
    although each value was chosen by what came before (convention of this project).

    Args:
        case: problem, rule and law of the starts at a value of the parameter, such as
            `lambda r: (problem, jaxsim.rules.NGD(0.5), jaxsim.init.Sphere(r))`.
        low: one end; the fractions at both ends must lie on different sides of the level.
        high: the other, above it.
        key: the JAX key.
        steps: number of updates.
        width: how narrow the interval is to be; with `logarithmic` the ratio of its ends, less 1.
        level: the level, between 0 and 1.
        verdict: of which lanes the fraction is.
        confidence: of the whole search.
        max_lanes: lanes at one value.
        logarithmic: whether to halve ratios, not differences; `low` is positive then.
        **options: as for `simulate`.

    Raises:
        ValueError: where the fractions at the ends are on the same side, or cannot be told from the level.
    """
    low, high = finite_number("low", low), finite_number("high", high)
    level, confidence = open_share("level", level), open_share("confidence", confidence)
    if not low < high:
        raise ValueError(f"high: expected a number above low = {low}; got {high}")
    if logarithmic:
        positive_number("low", low)
    positive_number("width", width)
    whole_number("max_lanes", max_lanes)
    one_of("verdict", verdict, VERDICTS)

    def count(value: float, number: int, first: int, lanes: int) -> int:
        problem, rule, law = case(value)
        own = jax.random.fold_in(key, number)
        run = simulate(problem, rule, law, key=own, lanes=lanes, first=first, steps=steps, **options)  # type: ignore
        return int((run.verdict == verdict).sum())

    ends = (math.log(low), math.log(high), math.log1p(width)) if logarithmic else (low, high, width)
    return search(count, *ends, level, confidence, max_lanes, math.exp if logarithmic else float)


def search(
    count: Callable[[float, int, int, int], int],
    low: float,
    high: float,
    width: float,
    level: float,
    confidence: float,
    max_lanes: int,
    place: Callable[[float], float] = float,
) -> Crossing:
    """The search of `crossing`: `count(value, number, first, lanes)` have the verdict; `place` makes values."""
    looks: list[_Look] = []

    def looked(places: list[float]) -> list[_Look]:
        """Looks at some places, with ever more lanes, the same for all, until one of them tells the side."""
        here = [_Look(at, len(looks) + k) for k, at in enumerate(places)]
        looks.extend(here)
        total, wanted = 0, min(FIRST, max_lanes)
        while all(look.above is None for look in here) and total < wanted:
            for look in here:
                look.found += count(place(look.at), look.number, total, wanted - total)
                look.total = wanted
                risk = (1 - confidence) * ROUNDS / (look.number + 1) ** 2
                least, most = (float(end) for end in anytime_bounds(look.found, look.total, 1 - risk))
                if not least <= level <= most:
                    look.above = least > level
            total, wanted = wanted, min(math.ceil(MORE * wanted), max_lanes)
        return here

    (at_low,), (at_high,) = looked([low]), looked([high])
    for name, look in (("low", at_low), ("high", at_high)):
        if look.above is None:
            raise ValueError(
                f"{name}: expected a value at which the fraction is not {level:g}; at {place(look.at):g} it cannot "
                f"be told from that with {max_lanes:,} lanes"
            )
    if at_low.above == at_high.above:
        side = "above" if at_low.above else "below"
        raise ValueError(
            f"low, high: expected fractions on both sides of {level:g}; at {place(low):g} and {place(high):g} it is "
            + side
        )
    settled, further = True, 1.0
    while settled and high - low > width:
        places, thirds = _next(looks, low, high, width, level, further)
        told = [look for look in looked(places) if look.above is not None]
        settled, further = bool(told) or not thirds, further if told else 2 * further
        low = max([low, *(look.at for look in told if look.above == at_low.above)])
        high = min([high, *(look.at for look in told if look.above == at_high.above and look.at > low)])
    values = np.array([place(look.at) for look in looks])
    counts, lanes = np.array([(look.found, look.total) for look in looks]).T
    return Crossing(place(low), place(high), bool(at_high.above), settled, values, counts, lanes, level, confidence)


@dataclasses.dataclass
class _Look:
    """What is known of one place."""

    at: float
    number: int
    found: int = 0
    total: int = 0
    above: bool | None = None  # whether it is above the level, once that can be told


def _next(
    looks: list[_Look], low: float, high: float, width: float, level: float, further: float
) -> tuple[list[float], bool]:
    """Where to look next, and whether these are the thirds of the interval.

    Both sides of where a logistic curve through what is near has the crossing, as far off as the interval may be wide
    and the curve is uncertain, and so many times `further`; where that is too far, the thirds.
    """
    middle = (low + high) / 2
    near = [look for look in looks if abs(look.at - middle) <= 1.5 * (high - low)]
    t = np.array([look.at for look in near]) - middle
    total = np.array([look.total + 1.0 for look in near])
    share = np.array([look.found + 0.5 for look in near]) / total
    design, logit = np.stack([np.ones_like(t), t], 1), math.log(level / (1 - level))
    line = np.linalg.lstsq(design, np.log(share / (1 - share)) - logit, rcond=None)[0]
    for _ in range(20):  # Newton's method for the likelihood, with a prior that keeps it finite
        p = 1 / (1 + np.exp(-np.clip(design @ line + logit, -30, 30)))
        curvature = (design * (total * p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        line = line + np.linalg.solve(curvature, design.T @ (total * (share - p)) - 1e-6 * line)
    if np.isfinite(line).all() and line[1] != 0:
        centre, spread = -line[0] / line[1], np.linalg.inv(curvature)
        at = np.array([1.0, centre])
        off = further * max(0.45 * width, 2 * math.sqrt(at @ spread @ at) / abs(line[1]))
        values = [v for v in (middle + centre - off, middle + centre + off) if low < v < high]
        if values and off < (high - low) / 3:
            return values, False
    return [low + (high - low) / 3, high - (high - low) / 3], True

"""Between host and device: start vectors chunk by chunk, and recorded numbers back to the columns of a table."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jaxsim import driver
from jaxsim.analysis import Limits, Thresholds, follow
from jaxsim.init import Fixed, Law, draw
from jaxsim.model import Frame, Loss
from jaxsim.model.frames import least_norm_coefficients
from jaxsim.model.spaces import as_device
from jaxsim.problem import Problem
from jaxsim.rules import Rule
from jaxsim.train.base import LOG10, Train, View
from jaxsim.train.key_query import FactorStarts, KeyQuery

ROUNDING = 16  # times the rounding of a sum over tokens: a gradient below that is none


@dataclasses.dataclass
class Work:
    """One problem, one rule and many lanes, checked and ready to run chunk by chunk."""

    problem: Problem
    rule: Rule
    init: Law | Fixed
    key: jax.Array
    lanes: int
    recorded: Int[np.ndarray, " R"]
    loss: Loss
    dtype: np.dtype
    frame: Frame
    kept: set[str]
    how: driver.Plan
    thresholds: Thresholds
    limits_of: str
    train: Train
    first: int = 0

    def __post_init__(self):
        self.solved: dict[Any, Any] = {}
        self.limits = Limits(self.problem, self.frame, self.limits_of == "all")

    @property
    def held_below(self) -> float:
        """Lanes with a smaller attention gap are held against their limit."""
        return 0.0 if self.limits_of == "none" else self.thresholds.saturation

    def model(self) -> driver.Model:
        """The model on the device."""
        return self.train.model(self.problem, self.frame, self.loss, self.dtype)

    def starts(self) -> Any:
        """A fresh stream of start vectors."""
        if isinstance(self.train, KeyQuery):
            return FactorStarts(self.init, self.key, self.frame, self.lanes, self.train.width, self.dtype, self.first)
        return Starts(self.init, self.key, self.frame, self.lanes, self.dtype, self.first)

    def again(self, rule: Rule, init: Law | Fixed, key: jax.Array, first: int) -> "Work":
        """The same problem and plan with another rule of its kind, law, key or first lane.

        Frame and limits are shared, and a selection that this work has solved is not solved again.
        """
        other = copy.copy(self)
        other.rule, other.init, other.key, other.first = rule, init, key, first
        return other

    def parts(self, progress: Callable[[int, int], None] | None = None) -> Iterator[dict[str, np.ndarray]]:
        """The columns of one chunk of lanes after another."""
        model = self.model()
        starts = self.starts()
        gaps, size = np.diff(self.recorded, prepend=0), self.how.blocks * self.how.width
        begun = (self.train.start(self.problem, self.frame, start) for start in starts.over(self.how))
        chunks = driver.run_chunks(model, as_device(self.rule, self.dtype), begun, gaps, self.how)
        for k, (records, final, report) in enumerate(chunks):
            valid = min(self.lanes - k * size, size)
            xi0, outside = starts.taken.pop(0)
            cut = {name: value[:valid] for name, value in records.items()}
            cut_report = {name: value[:valid] for name, value in report.items()}
            columns = analyse(
                self.limits, self.train, self.held_below, cut, final[:valid], cut_report,
                xi0[:valid], outside[:valid], self.kept,
            )  # fmt: skip
            selection = np.stack([self.limits.solutions[k].selection for k in columns["selection_number"]])
            view = View(self.problem, self.frame, cut, outside[:valid], selection, columns, self.solved)
            yield columns | self.train.columns(view)
            if progress is not None:
                progress(min(self.lanes, (k + 1) * size), self.lanes)

    def settings(self) -> dict[str, Any]:
        """How the lanes are made, as plain values."""
        settings: dict[str, Any] = {
            "rule": repr(self.rule),
            "rule_name": self.rule.name,
            "init": repr(self.init),
            "key": np.asarray(jax.random.key_data(self.key)).ravel().tolist(),
            "first": self.first,
            "lanes": self.lanes,
            "steps": int(self.recorded[-1]),
            "loss": self.loss.name,
            "train": type(self.train).__name__.lower(),
            "dtype": self.dtype.name,
            "coordinates": self.frame.kind,
            "rank": self.frame.rank,
        }
        return settings | (self.init.beyond(self.frame) if isinstance(self.init, Fixed) else {})


class Starts:
    """Start vectors chunk by chunk; what the analysis needs of each chunk waits in `taken`."""

    def __init__(self, init: Law | Fixed, key: jax.Array, frame: Frame, lanes: int, dtype: np.dtype, first: int):
        self.init, self.key, self.frame, self.lanes = init, key, frame, lanes
        self.dtype, self.first = dtype, first
        self.taken: list[tuple[Any, Any]] = []

    def over(self, how: driver.Plan) -> Iterator[jax.Array]:
        """Start vectors of each chunk of the plan."""
        for k in range(how.chunks):
            index = self.first + how.chunk(k)
            if isinstance(self.init, Fixed):
                # Lanes past the end repeat the last one and are dropped afterwards.
                last = self.first + self.lanes - 1
                with np.errstate(over="ignore", invalid="ignore"):  # becomes the verdict of that lane
                    xi, start, outside = self.init.at(np.minimum(index.ravel(), last), self.frame)
                    start = jnp.asarray(start.astype(self.dtype))
            else:
                law, entry = as_device(self.init, self.dtype), self.frame.entry(self.dtype)
                rest = self.frame.ambient - self.frame.rank
                index = jnp.asarray(index, jnp.uint32)
                xi, start, outside = draw(law, self.key, index, entry, self.frame.size, rest, self.dtype)
            xi, outside = np.asarray(xi, np.float64), np.asarray(outside, np.float64)
            self.taken.append((xi.reshape(index.size, -1), outside.ravel()))
            yield start


def analyse(
    limits: Limits, train: Train, saturation: float, records, final, report, xi0, outside, kept: set[str]
) -> dict[str, np.ndarray]:
    """Recorded numbers of some lanes to the columns of a Run."""
    records = {name: np.asarray(value, np.float64) for name, value in records.items()}
    visible = limits.problem.visible
    known = np.where(visible & ~np.isnan(final), final, -np.inf)
    selection = np.where((known == -np.inf).all(-1), visible.argmax(-1), known.argmax(-1))
    needed = np.zeros(len(selection), bool)
    if saturation > 0:
        needed = records["log_attention_gap"][:, -1] <= np.log(saturation)
    number = limits.number(selection, needed)
    position = records["position"]
    with np.errstate(invalid="ignore", over="ignore"):
        xi, apart = train.locate(limits.frame, xi0, outside, position)
        norm, error = follow(xi, apart, limits.of(number, needed))
        final_logits = limits.frame.logits(xi[:, -1])
        every_logits = limits.frame.logits(xi) if "logits" in kept else None
    columns = {
        "norm": norm,
        "direction_error": error,
        "final_logits": final_logits,
        "selection_number": number,
        "start": xi0,
        "position": np.array(xi[:, -1]),
        "outside": apart[:, -1],
    }
    cancellation = records.pop("log_cancellation")[:, -1]
    columns["converged"] = cancellation <= np.log(ROUNDING * visible.size * np.finfo(final.dtype).eps)
    columns |= {f"log10_{name[4:]}": records[name] / LOG10 for name in records if name.startswith("log_")}
    columns |= {f"report.{name}": np.asarray(value, np.float64) for name, value in report.items()}
    if every_logits is not None:
        columns["logits"] = every_logits
    if "coeffs" in kept:
        n, T = visible.shape
        known = limits.frame.coefficients(position)
        found = least_norm_coefficients(limits.frame, xi - xi0[:, None], n, T) if known is None else known
        columns["coeffs"] = found
    return columns

"""A piece of work: one problem, one rule and many lanes, checked, planned, and run chunk by chunk."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsim import _machine, driver, native
from jaxsim.analysis import Limits
from jaxsim.coordinates import Frame, as_device, frame_of
from jaxsim.init import Fixed, Law
from jaxsim.problem import Problem
from jaxsim.results import Run, joined
from jaxsim.results.lanes import Lanes
from jaxsim.rules import Rule, label, parameters
from jaxsim.simulation.analysing import analyse
from jaxsim.simulation.checks import check, check_range, check_types
from jaxsim.simulation.options import Options
from jaxsim.simulation.rest import log_left
from jaxsim.simulation.stepping import leaps
from jaxsim.train import WEIGHTS, Drawing, Known, Train, Weights
from jaxsim.train.tested import TESTED


@dataclasses.dataclass
class Work:
    """What `prepare` makes. `limits` and `solved` grow as chunks are analysed."""

    problem: Problem
    rule: Rule
    init: Law | Fixed
    key: jax.Array
    lanes: int
    first: int
    train: Train
    options: Options
    frame: Frame
    plan: driver.Plan
    lane_steps: float  # of the whole that this is a part of, by which engines are chosen
    engine: driver.Engine = driver.XLA  # what makes the steps

    def __post_init__(self):
        self.solved: dict[Any, Any] = {}
        self.apart = 0.0  # how far from their starts lanes begin: see `jaxsim.simulation.shadow`
        self.limits = Limits(self.problem, self.frame, self.options.limits == "all")

    @functools.cached_property
    def model(self) -> driver.Model:
        """The model on the device."""
        return self.train.model(self.problem, self.frame, self.options.loss, self.options.dtype)

    @property
    def far(self) -> bool:
        """Whether lanes leap."""
        return leaps(self.options.stepping, self.options.recorded, self.rule, self.train)

    def choose_engine(self, several: bool = False) -> None:
        """Settle what makes the steps, building it where need be, by the size of the whole."""
        options, plain = self.options, type(self.train) is Weights and self.train.batch is None
        chosen = (options.engine, self.problem, self.frame, options.loss, self.rule, options.dtype, self.lane_steps)
        self.engine = native.engine(*chosen, self.far, several) if plain else driver.XLA

    def starts(self, plan: driver.Plan | None = None) -> Iterator[driver.Start]:
        """Where the lanes begin, chunk by chunk of the plan."""
        how = Drawing(self.key, self.lanes, self.first, self.options.dtype, plan or self.plan)
        starts = self.train.starts(how, self.init, self.problem, self.frame)
        return (_moved(start, self.apart) for start in starts) if self.apart else starts

    def again(self, rule: Rule, init: Law | Fixed, key: jax.Array, first: int) -> "Work":
        """The same problem and plan with another rule of its kind, law, key or first lane.

        Frame, model and limits are shared, and a selection that this work has solved is not solved again.
        """
        _ = self.model  # made once for all
        other = copy.copy(self)
        other.rule, other.init, other.key, other.first = rule, init, key, first
        other.choose_engine()
        return other

    def starting(self, init: Fixed, lanes: int, steps: int) -> "Work":
        """The same from other starts, as many as are given, with one record after so many steps."""
        _ = self.model
        other = copy.copy(self)
        other.init, other.lanes, other.first = init, lanes, 0
        return other.until(dataclasses.replace(self.options, steps=steps, record=()))

    def until(self, options: Options) -> "Work":
        """The same to another horizon."""
        _ = self.model
        other = copy.copy(self)
        other.options = options
        other.plan = other.planned(self.lanes)
        return other

    def planned(self, lanes: int) -> driver.Plan:
        """The plan of so many lanes."""
        return _plan(self.problem, self.frame, self.train, self.options, lanes)

    def chunks(self, rehearsal: bool = False) -> Iterator[driver.Chunk]:
        """One chunk of lanes after another, as the driver leaves them; of a rehearsal, as they began."""
        rule, recorded = as_device(self.rule, self.options.dtype), self.options.recorded
        return driver.run(
            self.model, rule, self.starts(), recorded, self.plan, self.far, self.engine, rehearsal=rehearsal
        )

    def parts(self, progress: Callable[[int, int], None] | None = None) -> Iterator[Lanes]:
        """The rows of one chunk of lanes after another."""
        done = 0
        for chunk in self.chunks():
            here = slice(0, min(self.lanes - done, len(chunk.final)))
            yield self.analysed(chunk, here)
            done += here.stop
            if progress is not None:
                progress(done, self.lanes)

    def analysed(self, chunk: driver.Chunk, lanes: Any) -> Lanes:
        """The rows of some lanes of a chunk."""
        return self.held(chunk.start.known.of(lanes), chunk.results(lanes))

    def held(self, known: Known, results: tuple[Any, np.ndarray, dict[str, np.ndarray]]) -> Lanes:
        """The rows of lanes that began where `known` says, from what the driver gave of them."""
        below, kept, known = self.options.held_below, self.options.keep, self.decayed(known)
        with _machine.few_threads(self.problem.visible.size):
            return analyse(self.limits, self.train, below, known, *results, kept, self.solved)

    def decayed(self, known: Known) -> Known:
        """What is known of lanes, with what weight decay has left of their starts."""
        return dataclasses.replace(known, log_left=functools.partial(log_left, self.rule, self.options.recorded))

    def run(self, progress: Callable[[int, int], None] | None = None) -> Run:
        """All lanes."""
        return self.result(joined(list(self.parts(progress))))

    def result(self, lanes: Lanes, settings: dict[str, Any] | None = None, **more: Any) -> Run:
        """Some lanes as a `Run`; the settings are those of the work, where they are not at hand, and `more`."""
        solutions = self.limits.solutions
        return Run(
            problem=self.problem,
            settings=(settings or self.settings()) | more,
            steps=self.options.recorded,
            selections=np.stack([mm.selection for mm in solutions]),
            limit_norm=np.array([mm.norm for mm in solutions]),
            limit_status=np.array([mm.status for mm in solutions]),
            locally_optimal=np.array([mm.locally_optimal for mm in solutions]),
            support=np.stack([mm.support for mm in solutions]),
            thresholds=self.options.thresholds,
            **lanes.fields(),
        )

    def settings(self) -> dict[str, Any]:
        """How the lanes are made, as plain values."""
        return self.kind() | self.own(key_words(self.key))

    def own(self, words: list[int]) -> dict[str, Any]:
        """Those of the settings that problem, law and key decide."""
        own = {"init": repr(self.init), "key": words, "rank": self.frame.rank}
        return own | (self.init.beyond(self.frame) if isinstance(self.init, Fixed) else {})

    def kind(self) -> dict[str, Any]:
        """The others, in the order of all."""
        settings = {
            "rule": repr(self.rule),
            "rule_name": self.rule.name,
            "label": label(self.rule),
            "rule_data": parameters(self.rule),
            "predicts": self.rule.predicts,
            "step_length": self.rule.step_length,
            "init": None,
            "key": None,
            "first": self.first,
            "lanes": self.lanes,
            "steps": self.options.recorded[-1].item(),
            "loss": self.options.loss.name,
            "train": self.train.name,
            "curves": dict(self.train.curves) | (TESTED if self.problem.test is not None else {}),
            "dtype": self.options.dtype.name,
            "coordinates": self.frame.kind,
            "rank": None,
            "engine": self.engine.name,
        }
        decayed = self.rule.weight_decay(0) is not None
        left = {"start_left": float(np.exp(log_left(self.rule, self.options.recorded, 0)[-1]))} if decayed else {}
        return settings | left


def key_words(key: jax.Array) -> Any:
    """The numbers that make a key, or a list of them for each of several."""
    words = np.asarray(jax.random.key_data(key))
    return words.reshape(*key.shape, -1).tolist()


def _moved(start: driver.Start, apart: float) -> driver.Start:
    """Start vectors so far apart from those given, in every entry by another share of it, of all lanes the same."""
    vectors = jnp.asarray(start.vectors)
    large = jnp.maximum(jnp.abs(vectors).max(-1, keepdims=True), 1.0)
    ways = jnp.cos(jnp.arange(1, vectors.shape[-1] + 1, dtype=vectors.dtype))
    return dataclasses.replace(start, vectors=vectors + apart * large * ways)


def prepare(
    problem: Problem,
    rule: Rule,
    init: Law | Fixed,
    options: Options,
    *,
    key: jax.Array,
    lanes: int,
    train: Train = WEIGHTS,
    first: int = 0,
    of: int | None = None,
) -> Work:
    """Check what `simulate` was given, choose coordinates and plan the chunks; `of` so many lanes these are a part."""
    check_types(problem, rule, init, key)
    lanes = check(problem, init, lanes, options.loss, train, first)
    far = leaps(options.stepping, options.recorded, rule, train)
    problem = train.lift(problem)
    log_left(rule, options.recorded, 0)  # refuses a schedule that would take more away than there is
    check_range(problem, train.margins(problem), options.loss, options.dtype)
    frame = frame_of(problem, _coordinates(rule, train, options.coordinates), options.dtype)
    how = _plan(problem, frame, train, options, lanes)
    records, numbers = len(options.recorded), train.numbers(problem, frame)
    _machine.need(
        "problem" if options.record is None else "record",
        options.dtype.itemsize * how.width * (records * frame.size + numbers),
        f"{how.width:,} lanes at once with {frame.size:,} numbers at each of {records:,} recorded steps",
    )
    stepped = driver.leaps_from(rule) + driver.LEAPS_COST if far else options.recorded[-1]
    lane_steps = float(min(stepped, options.recorded[-1])) * (of or lanes)
    work = Work(problem, rule, init, key, lanes, first, train, options, frame, how, lane_steps)
    work.choose_engine()
    return work


def _plan(problem: Problem, frame: Frame, train: Train, options: Options, lanes: int) -> driver.Plan:
    size, bytes_each = train.numbers(problem, frame), options.dtype.itemsize
    return driver.plan(lanes, size, len(options.recorded), bytes_each, options.chunk_bytes, options.chunk_lanes)


def _coordinates(rule: Rule, train: Train, asked: Any) -> Any:
    """The coordinates that rule and training need, or those asked for; ValueError where they exclude each other."""
    needed = rule.coordinates
    if needed is not None and train.coordinates is not None:
        raise ValueError(
            f"rule: {rule!r} acts on the matrix W; expected train=jaxsim.train.Weights() or Joint(); got {train!r}"
        )
    needed = needed or train.coordinates
    allowed = {None: (None, asked), "primal": (None, "primal", "full"), "full": (None, "full")}[needed]
    if train.coordinates == "primal":
        allowed = (None, "primal")
    if asked not in allowed:
        name = repr(train) if train.coordinates else repr(rule)
        raise ValueError(f"coordinates: {name} runs in {needed} coordinates; got {asked!r}")
    return asked or needed

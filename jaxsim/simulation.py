"""`simulate`: from a problem, a rule and an initialisation law to a verdict on every lane."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxsim import driver
from jaxsim._check import whole_number
from jaxsim.analysis import Limits, Thresholds, follow
from jaxsim.init import Given, Law, draw
from jaxsim.model import Frame, attention, frame_of, named
from jaxsim.model.coordinates import as_device, least_norm_coefficients
from jaxsim.problem import Problem
from jaxsim.results import Run
from jaxsim.rules import Rule

LOG10 = np.log(10.0)
LARGEST_SCORE = {"float32": 80.0, "float64": 700.0}  # e^-s stays a normal number


def simulate(
    problem: Problem,
    rule: Rule,
    init: Law | Given,
    *,
    key: jax.Array,
    lanes: int,
    steps: int,
    record: Sequence[int] | None = None,
    loss: Literal["logistic", "exponential", "linear"] = "logistic",
    dtype: Any = None,
    coordinates: Literal["dual", "primal"] | None = None,
    keep: Iterable[Literal["logits", "coeffs"]] = (),
    thresholds: Thresholds | None = None,
    chunk_bytes: int = 2**28,
    chunk_lanes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Train one attention head from many initialisations at once and say where each run went.

    Args:
        problem: the data.
        rule: a step-size rule, such as jaxsim.rules.NGD(0.1).
        init: the law of W_0, such as jaxsim.init.Gaussian(1.0).
        key: the JAX key; lane i draws from fold_in(key, i).
        lanes: number of runs.
        steps: number of updates S.
        record: the recorded steps; by default 0 and about ten per decade. The horizon is always recorded.
        loss: ℓ: "logistic", "exponential" or "linear".
        dtype: float32 or float64; by default float64 where JAX has it switched on, else float32. Float32 is
            accumulated with compensation and right at any depth.
        coordinates: "dual" or "primal"; by default the cheaper one. Both give the same trajectories.
        keep: "logits" and "coeffs" to keep them at every recorded step (lanes · R · n · T numbers each).
        thresholds: when a run counts as saturated and aligned.
        chunk_bytes: aim for the memory of the records of one chunk of lanes, in bytes; a chunk has at least one
            block of lanes per device.
        chunk_lanes: likewise for the lanes of one chunk. Results are the same for any chunk size.
        progress: called as progress(lanes done, lanes) after each chunk.

    Returns:
        A `Run`. A lane whose arithmetic fails has the verdict "nonfinite" and does not touch the others.

    Raises:
        ValueError: where an argument has the wrong type, shape or range; or float64 is asked for while JAX has it
            switched off.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
        >>> run = jaxsim.simulate(
        ...     problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(0.1), key=jax.random.key(1), lanes=8, steps=1000
        ... )
        >>> run.verdict.shape, run.direction_error.shape == (8, len(run.steps))
        ((8,), True)
    """
    began = time.perf_counter()
    _check_types(problem, rule, init, key)
    lanes, steps = check(problem, init, lanes, steps, loss)
    real = _dtype(dtype)
    _check_range(problem, loss, real)
    recorded = driver.record_steps(steps, record)
    if chunk_lanes is not None:
        whole_number("chunk_lanes", chunk_lanes)
    kept = _kept(keep)
    frame = frame_of(problem, coordinates)
    model = attention(problem, frame, named(loss), real)
    n, T, _ = problem.shape
    how = driver.plan(lanes, max(frame.size, n * T), len(recorded), real.itemsize, chunk_bytes, chunk_lanes)
    starts = _Starts(init, key, frame, lanes, problem.shape[2], real)
    gaps = np.diff(recorded, prepend=0)
    limits = Limits(problem, frame)
    parts: list[dict[str, np.ndarray]] = []
    chunks = driver.run_chunks(model, as_device(rule, real), starts.over(how), gaps, how)
    for k, (records, final, report) in enumerate(chunks):
        valid = min(lanes - k * how.blocks * how.width, how.blocks * how.width)
        xi0, outside = starts.taken.pop(0)
        parts.append(_analyse(limits, records, final, report, xi0, outside, valid, kept))
        if progress is not None:
            progress(min(lanes, (k + 1) * how.blocks * how.width), lanes)
    columns = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    settings = {
        "rule": repr(rule),
        "rule_name": rule.name,
        "init": repr(init) if not isinstance(init, Given) else f"Given{init.W0.shape}",
        "key": np.asarray(jax.random.key_data(key)).ravel().tolist(),
        "lanes": lanes,
        "steps": steps,
        "loss": loss,
        "dtype": real.name,
        "coordinates": frame.kind,
        "rank": frame.rank,
        "seconds": time.perf_counter() - began,
    }
    if isinstance(init, Given):
        settings["given"] = _beyond(init, frame)
    return _assemble(problem, settings, recorded, columns, limits, thresholds or Thresholds())


def check(problem: Problem, init: Law | Given, lanes: int, steps: int, loss: str) -> tuple[int, int]:
    """Lanes and steps as integers, or the ValueError that `simulate` would raise for these arguments."""
    lanes, steps = whole_number("lanes", lanes), whole_number("steps", steps)
    named(loss)
    if isinstance(init, Given):
        init.matrices(np.arange(0), lanes, problem.shape[2])
    return lanes, steps


class _Starts:
    """Start vectors chunk by chunk; what the analysis needs of each chunk waits in `taken`."""

    def __init__(self, init: Law | Given, key: jax.Array, frame: Frame, lanes: int, d: int, dtype: np.dtype):
        self.init, self.key, self.frame, self.lanes, self.d, self.dtype = init, key, frame, lanes, d, dtype
        self.taken: list[tuple[Any, Any]] = []

    def over(self, how: driver.Plan) -> Iterator[jax.Array]:
        for k in range(how.chunks):
            index = how.chunk(k)
            if isinstance(self.init, Given):
                # Lanes past the end repeat the last one and are dropped afterwards.
                W0 = self.init.matrices(np.minimum(index.ravel(), self.lanes - 1), self.lanes, self.d)
                with np.errstate(over="ignore", invalid="ignore"):  # becomes the verdict of that lane
                    xi, start, outside = self.frame.project(W0)
                    start = jnp.asarray(start.astype(self.dtype))
            else:
                law, entry = as_device(self.init, self.dtype), self.frame.entry(self.dtype)
                rest = self.frame.ambient - self.frame.rank
                index = jnp.asarray(index, jnp.uint32)
                xi, start, outside = draw(law, self.key, index, entry, self.frame.size, rest, self.dtype)
            xi, outside = np.asarray(xi, np.float64), np.asarray(outside, np.float64)
            self.taken.append((xi.reshape(index.size, -1), outside.ravel()))
            yield start


def _beyond(init: Given, frame: Frame) -> np.ndarray:
    """The part of the given matrices outside the span, which never moves."""
    W0 = init.W0 if init.W0.ndim == 3 else init.W0[None]
    with np.errstate(over="ignore", invalid="ignore"):
        xi, _, _ = frame.project(W0)
        return W0 - np.stack([frame.lift(x) for x in xi])


def _analyse(limits: Limits, records, final, report, xi0, outside, valid: int, kept: set[str]) -> dict[str, np.ndarray]:
    """Recorded numbers of one chunk to the columns of a Run, for its first `valid` lanes."""
    records = {name: np.asarray(value[:valid], np.float64) for name, value in records.items()}
    xi0, outside = xi0[:valid], outside[:valid]
    visible = limits.problem.visible
    known = np.where(visible & ~np.isnan(final[:valid]), final[:valid], -np.inf)
    selection = np.where((known == -np.inf).all(-1), visible.argmax(-1), known.argmax(-1))
    number = limits.number(selection)
    position = records.pop("position")
    with np.errstate(invalid="ignore", over="ignore"):
        xi = limits.frame.locate(xi0[:, None], position)
        norm, error = follow(xi, outside, np.stack([limits.units[k] for k in number]))
        final_logits = limits.frame.logits(xi[:, -1])
        every_logits = limits.frame.logits(xi) if "logits" in kept else None
    columns = {
        "norm": norm,
        "direction_error": error,
        "final_logits": final_logits,
        "selection_number": number,
        "start": xi0,
        "position": np.array(xi[:, -1]),
        "outside": outside,
    }
    columns |= {f"log10_{name[4:]}": records[name] / LOG10 for name in records if name.startswith("log_")}
    columns |= {f"report.{name}": np.asarray(value[:valid], np.float64) for name, value in report.items()}
    if every_logits is not None:
        columns["logits"] = every_logits
    if "coeffs" in kept:
        n, T = visible.shape
        if limits.frame.kind == "dual":
            columns["coeffs"] = position.reshape(*position.shape[:-1], n, T)
        else:
            columns["coeffs"] = least_norm_coefficients(limits.frame, xi - xi0[:, None], n, T)
    return columns


def _assemble(problem: Problem, settings, recorded, columns, limits: Limits, thresholds: Thresholds) -> Run:
    report = {name[7:]: columns.pop(name) for name in list(columns) if name.startswith("report.")}
    solutions = limits.solutions
    return Run(
        problem=problem,
        settings=settings,
        steps=recorded,
        selections=np.stack([mm.selection for mm in solutions]),
        limit_norm=np.array([mm.norm for mm in solutions]),
        limit_status=np.array([mm.status for mm in solutions]),
        locally_optimal=np.array([mm.locally_optimal for mm in solutions]),
        support=np.stack([mm.support for mm in solutions]),
        report=report,
        thresholds=thresholds,
        **columns,
    )


def _check_types(problem: Any, rule: Any, init: Any, key: Any) -> None:
    if not isinstance(problem, Problem):
        raise ValueError(f"problem: expected a jaxsim.Problem; got {type(problem).__name__}")
    if isinstance(rule, type) or not hasattr(rule, "update"):
        raise ValueError(f"rule: expected a rule such as jaxsim.rules.NGD(0.1); got {rule!r}")
    if isinstance(init, type) or not (hasattr(init, "place") or isinstance(init, Given)):
        raise ValueError(f"init: expected a law such as jaxsim.init.Gaussian(1.0); got {init!r}")
    if not isinstance(key, jax.Array):
        raise ValueError(f"key: expected a JAX key such as jax.random.key(0); got {key!r}")


def _check_range(problem: Problem, loss: str, real: np.dtype) -> None:
    """Refuse scores at which differences of the loss leave the range of the dtype."""
    scores = problem.scores[problem.visible]
    largest = {"logistic": scores.max(), "exponential": np.abs(scores).max(), "linear": 0.0}[loss]
    bound = LARGEST_SCORE[real.name]
    if largest > bound:
        raise ValueError(
            f"decoder: token scores reach {largest:.4g}, where the {loss} loss leaves the range of {real}; expected at "
            f"most {bound:g}. Scale the decoder down" + ("." if real == np.float64 else ", or use float64.")
        )


def _dtype(dtype: Any) -> np.dtype:
    enabled = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    real = np.dtype(dtype if dtype is not None else (np.float64 if enabled else np.float32))
    if real not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype: expected float32 or float64; got {real}")
    if real == np.float64 and not enabled:
        raise ValueError(
            "dtype: expected float32, because JAX has float64 switched off in this process; got float64. "
            'Switch it on before the first computation: jax.config.update("jax_enable_x64", True).'
        )
    return real


def _kept(keep: Iterable[str]) -> set[str]:
    kept = {keep} if isinstance(keep, str) else set(keep)
    if not kept <= {"logits", "coeffs"}:
        raise ValueError(f"keep: expected 'logits' and 'coeffs'; got {sorted(kept - {'logits', 'coeffs'})}")
    return kept

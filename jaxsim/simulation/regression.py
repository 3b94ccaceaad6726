"""`regress`: linear logistic regression through the same driver and rules, for comparison with attention."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim import driver
from jaxsim._basis import orthonormal_basis
from jaxsim._check import finite_array, random_key, whole_number
from jaxsim.analysis import Rate, fit_rate
from jaxsim.analysis.limits import follow
from jaxsim.analysis.rates import RateLaw
from jaxsim.init import Gaussian, Law, Sphere, Zero, draw
from jaxsim.margin import hard_margin
from jaxsim.model import Loss, named
from jaxsim.model.linear import LinearModel
from jaxsim.model.spaces import PrimalEntry, as_device
from jaxsim.rules import Rule
from jaxsim.simulation.options import run_dtype
from jaxsim.simulation.work import ROUNDING
from jaxsim.train.base import LOG10


@dataclasses.dataclass(frozen=True, eq=False)
class LinearRun:
    """What `regress` returns. Lanes first; R recorded steps.

    Attributes:
        settings: how the lanes were made.
        steps: recorded steps, (R,).
        limit: w_mm, the hard-margin solution, (d,); NaN where the data are not separable.
        norm: ‖w_k‖, (lanes, R).
        direction_error: ‖w_k/‖w_k‖ - w_mm/‖w_mm‖‖, (lanes, R); NaN at w = 0.
        margin_gap: 1 - (least margin of w_k/‖w_k‖) ‖w_mm‖, (lanes, R).
        log10_loss: log10 L, at any depth, (lanes, R).
        log10_grad_norm: log10 ‖∇L‖, (lanes, R).
        converged: lanes at a minimum of the loss, which data that are not separable have, (lanes,).
        report: the rule's per-lane diagnostics.
    """

    settings: dict[str, Any]
    steps: Int[np.ndarray, " R"]
    limit: Float[np.ndarray, " d"]
    norm: Float[np.ndarray, "lanes R"]
    direction_error: Float[np.ndarray, "lanes R"]
    margin_gap: Float[np.ndarray, "lanes R"]
    log10_loss: Float[np.ndarray, "lanes R"]
    log10_grad_norm: Float[np.ndarray, "lanes R"]
    converged: Bool[np.ndarray, " lanes"]
    report: dict[str, np.ndarray]

    def rate(self, law: RateLaw = "power", window: tuple[int, int] | None = None) -> Rate:
        """The rate of the direction error over lanes; see `fit_rate`."""
        return fit_rate(self.steps, self.direction_error, law, window)


def regress(
    features: Any,
    labels: Any,
    rule: Rule,
    init: Law,
    *,
    key: jax.Array,
    lanes: int,
    steps: int,
    record: Sequence[int] | None = None,
    loss: str | Loss = "logistic",
    dtype: Any = None,
    chunk_bytes: int = 2**28,
) -> LinearRun:
    """Train a linear classifier from many starts and follow its direction to the hard-margin solution.

        L(w) = (1/n) Σ_i ℓ(y_i wᵀx_i),   w_mm = argmin ‖w‖ subject to y_i wᵀx_i ≥ 1

    Args:
        features: x, shape (n, d).
        labels: y, shape (n,), each +1 or -1.
        rule: a rule that runs in any coordinates, such as jaxsim.rules.NGD(0.1).
        init: the law of w_0: Gaussian, Sphere or Zero.
        key: the JAX key; lane i draws from fold_in(key, i).
        lanes: number of runs.
        steps: number of updates.
        record: the recorded steps, as for `simulate`.
        loss: "logistic", "exponential" or a positive `jaxsim.losses.Smooth`.
        dtype: float32 or float64.
        chunk_bytes: aim for the memory of one chunk of lanes.

    Returns:
        A `LinearRun`.

    Raises:
        ValueError: where an argument has the wrong type, shape or value.

    Reference:
        Soudry et al. 2018, arXiv 1710.10345; normalised steps: Nacson et al. 2019, arXiv 1803.01905.

    Example:
        >>> import jax, jaxsim, numpy as np
        >>> rule, start = jaxsim.rules.NGD(0.1), jaxsim.init.Zero()
        >>> run = jaxsim.regress(np.eye(3), [1, -1, 1], rule, start, key=jax.random.key(0), lanes=1, steps=500)
        >>> bool(run.direction_error[0, -1] < 1e-12)
        True
    """
    began = time.perf_counter()
    x = finite_array("features", features, (None, None), "(n, d)")
    y = finite_array("labels", labels, (len(x),), "(n,)")
    if len(x) == 0 or not np.all(np.abs(y) == 1):
        raise ValueError("labels: expected at least one label, each +1 or -1")
    if not isinstance(init, Gaussian | Sphere | Zero):
        raise ValueError(f"init: expected jaxsim.init.Gaussian, Sphere or Zero; got {init!r}")
    if isinstance(rule, type) or not hasattr(rule, "update") or getattr(rule, "coordinates", None) is not None:
        raise ValueError(
            f"rule: expected one that runs in any coordinates, such as jaxsim.rules.NGD(0.1); got {rule!r}"
        )
    random_key("key", key)
    if named(loss).name == "linear":
        raise ValueError("loss: expected one whose infimum is 0; the linear loss has none")
    lanes, real = whole_number("lanes", lanes), run_dtype(dtype)
    recorded = driver.record_steps(steps, record)
    rows = y[:, None] * x
    basis = orthonormal_basis(rows)
    model = jax.tree.map(jnp.asarray, LinearModel((rows @ basis).astype(real), named(loss)))  # type: ignore[arg-type]
    size, rest = basis.shape[1], x.shape[1] - basis.shape[1]
    how = driver.plan(lanes, max(size, len(x)), len(recorded), real.itemsize, chunk_bytes, None)
    taken = []

    def starts():
        for k in range(how.chunks):
            index = jnp.asarray(how.chunk(k), jnp.uint32)
            xi, start, outside = draw(as_device(init, real), key, index, PrimalEntry(), size, rest, real)
            taken.append(np.asarray(outside, np.float64).ravel())
            yield start

    unit, limit_norm = hard_margin(rows)
    parts: list[dict[str, np.ndarray]] = []
    gaps = np.diff(recorded, prepend=0)
    for records, _, report in driver.run_chunks(model, as_device(rule, real), starts(), gaps, how):
        position = np.asarray(records["position"], np.float64)
        outside = taken.pop(0)
        norm, error = follow(position, outside[:, None], np.broadcast_to(unit @ basis, (len(position), size)))
        with np.errstate(invalid="ignore", divide="ignore"):
            margin = (position @ (rows @ basis).T).min(2) / norm
        part = {"norm": norm, "direction_error": error, "margin_gap": 1 - margin * limit_norm}
        part |= {"log10_loss": np.asarray(records["log_gap"], np.float64) / LOG10}
        part |= {"log10_grad_norm": np.asarray(records["log_grad_norm"], np.float64) / LOG10}
        cancellation = np.asarray(records["log_cancellation"], np.float64)[:, -1]
        part["converged"] = cancellation <= np.log(ROUNDING * len(x) * np.finfo(real).eps)
        parts.append(part | {f"report.{name}": np.asarray(value, np.float64) for name, value in report.items()})
    columns = {name: np.concatenate([part[name] for part in parts])[:lanes] for name in parts[0]}
    report = {name[7:]: columns.pop(name) for name in list(columns) if name.startswith("report.")}
    settings = {"rule": repr(rule), "init": repr(init), "lanes": lanes, "steps": int(recorded[-1])}
    settings |= {"loss": named(loss).name, "dtype": real.name, "seconds": time.perf_counter() - began}
    return LinearRun(settings=settings, steps=recorded, limit=unit * limit_norm, report=report, **columns)

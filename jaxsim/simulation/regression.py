"""`regress`: linear logistic regression through the same driver and rules, for comparison with attention."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxsim import driver
from jaxsim._basis import orthonormal_basis
from jaxsim._check import finite_array, random_key, whole_number
from jaxsim._tree import pytree
from jaxsim.analysis.limits import follow
from jaxsim.coordinates import PrimalEntry, as_device
from jaxsim.init import Law
from jaxsim.margin import hard_margin
from jaxsim.model import Loss, named, positive
from jaxsim.model.linear import LinearModel
from jaxsim.model.minibatch import Minibatch
from jaxsim.results import LinearRun
from jaxsim.rules import Rule, check_rule, label, parameters
from jaxsim.simulation.options import CHUNK_BYTES, Options
from jaxsim.simulation.rest import at_rest, log_left
from jaxsim.simulation.stepping import leaps
from jaxsim.train import Weights
from jaxsim.train.base import LOG10
from jaxsim.train.starts import Drawing, drawn


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
    chunk_bytes: int = CHUNK_BYTES,
    stepping: Literal["auto", "every", "leap"] = "auto",
    batch: int | None = None,
) -> LinearRun:
    """Train a linear classifier from many starts and follow its direction to the hard-margin solution.

        L(w) = (1/n) Σ_i ℓ(y_i wᵀx_i),   w_mm = argmin ‖w‖ subject to y_i wᵀx_i ≥ 1

    Args:
        features: x, shape (n, d).
        labels: y, shape (n,), each +1 or -1.
        rule: a rule that runs in any coordinates, such as jaxsim.rules.NGD(0.1), or acts on the entries of w, such as
            jaxsim.rules.Adam(0.1).
        init: the law of w_0, such as Gaussian, Sphere or Zero.
        key: the JAX key; lane i draws from fold_in(key, i).
        lanes: number of runs.
        steps: number of updates.
        record: the recorded steps, as for `simulate`.
        loss: "logistic", "exponential" or a positive `jaxsim.losses.Smooth`.
        dtype: float32 or float64.
        chunk_bytes: aim for the memory of one chunk of lanes.
        stepping: whether lanes may leap, as for `simulate`.
        batch: samples per step, by default all; their order is that of fold_in(key, 2**32 - 1), as in `heads`.

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
    if isinstance(init, type) or not hasattr(init, "place"):
        raise ValueError(f"init: expected jaxsim.init.Gaussian, Sphere or Zero, or a law of your own; got {init!r}")
    check_rule(rule)
    if rule.coordinates not in (None, "full"):
        raise ValueError(f"rule: expected one that needs no matrix, such as jaxsim.rules.NGD(0.1); got {rule!r}")
    random_key("key", key)
    if named(loss).name == "linear":
        raise ValueError("loss: expected one whose infimum is 0; the linear loss has none")
    if positive(named(loss)):
        raise ValueError(f"loss: expected one of any margin; got {named(loss).name}, which needs margins above 0")
    lanes = whole_number("lanes", lanes)
    options = Options(steps, record, loss, dtype, stepping=stepping)
    real, recorded = options.dtype, options.recorded
    if whole_number("batch", len(x) if batch is None else batch) > len(x):
        raise ValueError(f"batch: expected at most n = {len(x)} samples; got {batch}")
    far = leaps(stepping, recorded, rule, Weights(batch))
    left = functools.partial(log_left, rule, recorded)
    left(0)  # refuses a schedule that would take more away than there is
    rows = y[:, None] * x
    basis = orthonormal_basis(rows) if rule.coordinates is None else np.eye(x.shape[1])
    model: Any = jax.tree.map(jnp.asarray, LinearModel((rows @ basis).astype(real), named(loss)))  # type: ignore[arg-type]
    if batch is not None:
        model = Minibatch(model, jax.random.fold_in(key, 2**32 - 1), len(x), batch)
    size, rest = basis.shape[1], x.shape[1] - basis.shape[1]
    how = driver.plan(lanes, max(size, len(x)), len(recorded), real.itemsize, chunk_bytes, None)
    starts = drawn(Drawing(key, lanes, 0, real, how), init, PrimalEntry(), size, rest)
    unit, limit_norm = hard_margin(rows)
    parts: list[_Lanes] = []
    for chunk in driver.run(model, as_device(rule, real), starts, recorded, how, far):
        records = jax.tree.map(lambda value: np.asarray(value, np.float64), chunk.records)
        known = dataclasses.replace(chunk.start.known, log_left=left)
        report = {name: np.asarray(value, np.float64) for name, value in chunk.report.items()}
        outside, along = known.outside[:, None] * known.left(0) ** 2, np.broadcast_to(unit @ basis, known.xi.shape)
        norm, error = follow(records.position, outside, along)
        with np.errstate(invalid="ignore", divide="ignore"):
            margin = (records.position @ (rows @ basis).T).min(2) / norm
        parts.append(
            _Lanes(
                norm, error, 1 - margin * limit_norm, records.log_gap / LOG10, records.log_grad_norm / LOG10,
                at_rest(records.position, outside, known, records, report, len(x), real),
                records.position[:, -1] @ basis.T, report,
            )
        )  # fmt: skip
    found = jax.tree.map(lambda *each: np.concatenate(each)[:lanes], *parts)
    settings = {
        "rule": repr(rule),
        "label": label(rule),
        "rule_data": parameters(rule),
        "init": repr(init),
        "lanes": lanes,
        "steps": recorded[-1].item(),
        "batch": batch,
    }
    settings |= {"loss": named(loss).name, "dtype": real.name, "seconds": time.perf_counter() - began}
    return LinearRun(settings, recorded, unit * limit_norm, **{f.name: getattr(found, f.name) for f in _FIELDS})


@pytree
class _Lanes:
    """The fields of a `LinearRun` that have lanes first."""

    norm: np.ndarray
    direction_error: np.ndarray
    margin_gap: np.ndarray
    log10_loss: np.ndarray
    log10_grad_norm: np.ndarray
    converged: np.ndarray
    w: np.ndarray
    report: dict[str, np.ndarray]


_FIELDS = dataclasses.fields(_Lanes)  # type: ignore[arg-type]

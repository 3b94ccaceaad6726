"""Where given starts end, asked again and again: the question behind bisection and search."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim import driver
from jaxsim.analysis.limits import same
from jaxsim.init import Zero
from jaxsim.model import Loss
from jaxsim.model.spaces import as_device
from jaxsim.problem import Problem
from jaxsim.rules import GD, NGD, Polyak, Rule
from jaxsim.rules.base import Scheduled
from jaxsim.simulation.one_problem import CHUNK_BYTES, prepare

LEAST = 64  # lanes of a call; fewer are padded, so that sizes that change do not recompile


@dataclasses.dataclass(frozen=True)
class Fate:
    """Where lanes stand after some steps."""

    xi: Float[np.ndarray, "lanes size"]
    selection: Int[np.ndarray, "lanes n"]
    optimal: Bool[np.ndarray, " lanes"]  # the selection is the optimal one
    saturated: Bool[np.ndarray, " lanes"]
    logits: Float[np.ndarray, "lanes n T"]
    log10_grad_norm: Float[np.ndarray, " lanes"]


class Fates:
    """The fate of starts ξ_0 in the coordinates of `frame`, for one problem and one rule.

    The border that bisection finds is that of "the selection after `steps` steps is the optimal one" (convention of
    this project): every start has one side or the other, saturated or not.
    """

    def __init__(self, problem: Problem, rule: Rule, steps: int, loss: str | Loss, dtype: Any, coordinates: Any = None):
        self.work = prepare(
            problem, rule, Zero(), key=jax.random.key(0), lanes=1, steps=steps, record=(), loss=loss, dtype=dtype,
            thresholds=None, limits="saturated", coordinates=coordinates,
        )  # fmt: skip
        self.frame, self.steps = self.work.frame, int(self.work.recorded[-1])
        self._model: Any = self.work.model()
        self._rule = as_device(rule, self.work.dtype)

    def __call__(self, xi: Float[np.ndarray, "lanes size"], steps: int | None = None) -> Fate:
        """The fate of each start after `steps` steps, by default the horizon."""
        work, lanes = self.work, len(xi)
        padded = max(LEAST, 1 << (lanes - 1).bit_length())
        size = work.train.numbers(work.problem, self.frame)
        how = driver.plan(padded, size, 1, work.dtype.itemsize, CHUNK_BYTES, None)
        index = [np.minimum(how.chunk(k).ravel(), lanes - 1) for k in range(how.chunks)]
        starts = (jnp.asarray(self.frame.begin(xi[lane]).astype(work.dtype)) for lane in index)
        gaps = np.array([self.steps if steps is None else steps])
        found = list(driver.run_chunks(self._model, self._rule, starts, gaps, how))
        records = {name: np.concatenate([f[0][name] for f in found])[:lanes, -1] for name in found[0][0]}
        logits = np.concatenate([f[1] for f in found])[:lanes].astype(np.float64)
        visible = work.problem.visible
        selection = np.where(visible & ~np.isnan(logits), logits, -np.inf).argmax(2)
        with np.errstate(invalid="ignore"):
            end = self.frame.locate(xi[:, None], records["position"][:, None].astype(np.float64))[:, 0]
        return Fate(
            end,
            selection,
            same(selection, work.problem.optimal),
            records["log_attention_gap"] <= np.log(work.thresholds.saturation),
            logits,
            records["log_grad_norm"] / np.log(10.0),
        )

    def pull(self, logits: Float[np.ndarray, "lanes n T"]) -> Float[np.ndarray, "lanes n T"]:
        """The gradient in the logits over its largest entry, with its sign: below 0 where a step raises the logit."""
        columns = jnp.asarray(np.moveaxis(logits, 0, -1).astype(self.work.dtype))
        g = np.moveaxis(np.asarray(self._model.in_logits(columns)[0], np.float64), -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return g / np.abs(g).max((1, 2), keepdims=True)

    def settings(self) -> dict[str, Any]:
        """How fates are found, as plain values."""
        work = self.work
        return {"rule": repr(work.rule), "steps": self.steps, "dtype": work.dtype.name,
                "coordinates": self.frame.kind, "loss": work.loss.name}  # fmt: skip

    def restartable(self) -> None:
        """Refuse rules whose next step depends on more than W."""
        rule = self.work.rule
        sizes = [getattr(rule, name) for name in ("eta", "scale", "max_step") if hasattr(rule, name)]
        if not isinstance(rule, GD | NGD | Polyak) or any(isinstance(size, Scheduled) for size in sizes):
            raise ValueError(
                f"rule: expected GD, NGD or Polyak with constant steps, whose next step needs W alone; got {rule!r}"
            )

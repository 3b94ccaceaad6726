"""Where given starts end, asked again and again: the question behind bisection and search."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim.analysis.limits import same
from jaxsim.init import Reduced, Zero
from jaxsim.model import Loss
from jaxsim.problem import Problem
from jaxsim.rules import GD, NGD, Polyak, Rule, label, parameters
from jaxsim.rules.base import Scheduled
from jaxsim.simulation import Options
from jaxsim.simulation.work import prepare

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
        options = Options(steps, (), loss, dtype, coordinates, limits="saturated")
        self.work = prepare(problem, rule, Zero(), options, key=jax.random.key(0), lanes=1)
        self.frame, self.steps = self.work.frame, self.work.options.steps

    def __call__(self, xi: Float[np.ndarray, "lanes size"], steps: int | None = None) -> Fate:
        """The fate of each start after `steps` steps, by default the horizon."""
        lanes, horizon = len(xi), self.steps if steps is None else steps
        padded = np.minimum(np.arange(max(LEAST, 1 << (lanes - 1).bit_length())), lanes - 1)
        work = self.work.starting(Reduced(xi[padded]), len(padded), horizon)
        found: Any = [jax.tree.map(np.asarray, (c.records, c.final, c.start.known)) for c in work.chunks()]
        records, final, known = jax.tree.map(lambda *each: np.concatenate(each)[:lanes], *found)
        logits = final.astype(np.float64)
        problem = work.problem
        selection = np.where(problem.visible & ~np.isnan(logits), logits, -np.inf).argmax(2)
        with np.errstate(invalid="ignore"):
            end, _ = work.train.locate(self.frame, work.decayed(known), records.position.astype(np.float64))
        return Fate(
            end[:, -1],
            selection,
            same(selection, problem.optimal),
            records.log_attention_gap[:, -1] <= np.log(work.options.thresholds.saturation),
            logits,
            records.log_grad_norm[:, -1] / np.log(10.0),
        )

    def pull(self, logits: Float[np.ndarray, "lanes n T"]) -> Float[np.ndarray, "lanes n T"]:
        """The gradient in the logits over its largest entry, with its sign: below 0 where a step raises the logit."""
        columns = jnp.asarray(np.moveaxis(logits, 0, -1).astype(self.work.options.dtype))
        model: Any = self.work.model
        g = np.moveaxis(np.asarray(model.in_logits(columns)[0], np.float64), -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return g / np.abs(g).max((1, 2), keepdims=True)

    def settings(self) -> dict[str, Any]:
        """How fates are found, as plain values."""
        work = self.work
        return {"rule": repr(work.rule), "label": label(work.rule), "rule_data": parameters(work.rule),
                "steps": self.steps,
                "dtype": work.options.dtype.name, "coordinates": self.frame.kind,
                "loss": work.options.loss.name}  # fmt: skip

    def restartable(self) -> None:
        """Refuse rules whose next step depends on more than W."""
        rule = self.work.rule
        sizes = [getattr(rule, name) for name in ("eta", "scale", "max_step") if hasattr(rule, name)]
        if not isinstance(rule, GD | NGD | Polyak) or any(isinstance(size, Scheduled) for size in sizes):
            raise ValueError(
                f"rule: expected GD, NGD or Polyak with constant steps, whose next step needs W alone; got {rule!r}"
            )

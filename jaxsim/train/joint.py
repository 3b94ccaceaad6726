"""W and the decoder together."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxsim._check import finite_array
from jaxsim.margin import classifier
from jaxsim.model import positive
from jaxsim.model.joint import DecoderFrame, decoder_rows, joint
from jaxsim.problem import Problem
from jaxsim.train.base import LOG10, OfW, View, each_once
from jaxsim.train.weights import check_batch, on_batches


@dataclasses.dataclass(frozen=True, eq=False)
class Joint(OfW):
    """W and the decoder u are trained together.

    Scores are those of the lane's own decoder, at its end where verdicts are concerned (convention of this project).
    The decoder's limit is u_mm, the hard-margin classifier of the tokens that the lane selects:
    min ‖u‖ subject to y_i uᵀx_{i,α_i} ≥ 1. `Run.more` holds, per lane and recorded step, log10_loss (which is
    also log10_gap, as L* = 0), decoder_norm, decoder_direction_error and decoder_margin_gap, 1 - (margin of u) ‖u_mm‖;
    and per lane the final `decoder` u.

    Args:
        decoder: u_0, shape (d,); by default the decoder of the problem. Zeros are allowed: W then moves from the
            second step on.
        batch: as for `Weights`; what is recorded is that of all sequences.
        key: as for `Weights`.

    Reference:
        Joint training as in arXiv 2402.05738 and 2306.13596.
    """

    decoder: Any = dataclasses.field(default=None, repr=False)
    batch: int | None = None
    key: Any = dataclasses.field(default=None, repr=False)

    name: ClassVar[str] = "joint"
    curves: ClassVar[Mapping[str, str]] = {
        "log10_loss": "log10 L",
        "decoder_norm": "‖u‖",
        "decoder_direction_error": "error of u",
        "decoder_margin_gap": "",
    }
    finals: ClassVar[Mapping[str, str]] = {
        "decoder": "lanes v",
        "decoder_limit_norm": "lanes",
        "final_scores": "lanes n T",
    }

    def check(self, problem, loss, init):
        """Shape of u_0, batches no larger than the data, and a loss with infimum 0."""
        super().check(problem, loss, init)
        check_batch(problem, self.batch, self.key)
        self._start(problem)
        if loss.name == "linear":
            raise ValueError("loss: joint training needs a loss whose infimum is 0; the linear loss has none")
        if positive(loss):
            raise ValueError(f"loss: expected one of any margin, as a trained decoder may give; got {loss.name}")

    def _start(self, problem: Problem) -> Float[np.ndarray, " d"]:
        if self.decoder is None:
            return problem.decoder
        return finite_array("decoder", self.decoder, (problem.shape[2],), "(d,)")

    def model(self, problem, frame, loss, dtype):
        """Two blocks, on all sequences or on batches."""
        return on_batches(joint(problem, frame, loss, dtype), problem, self.batch, self.key)

    def start(self, problem, frame, vectors):
        """The numbers of u_0, after W's."""
        own = DecoderFrame(problem, frame.kind).start(self._start(problem))
        wide = jnp.broadcast_to(jnp.asarray(own, vectors.dtype), (*vectors.shape[:-1], own.size))
        return jnp.concatenate([vectors, wide], -1)

    def decoders_of(self, view: View) -> Float[np.ndarray, "lanes R d"]:
        """The decoder of every lane at every recorded step."""
        position = np.asarray(view.records.more["decoder"], np.float64)
        return DecoderFrame(view.problem, view.frame.kind).locate(
            self._start(view.problem), position, view.known.left(1)
        )

    def columns(self, view):
        """Decoder norms, errors and margins; verdict parts under the final scores."""
        problem, selection = view.problem, view.selection
        rows, u = decoder_rows(problem), self.decoders_of(view)
        norm = np.linalg.norm(u, axis=2)
        unit, limit_norm = _classifiers(problem, selection, view.solved)
        selected = rows[np.arange(len(rows)), selection]  # (lanes, n, d)
        with np.errstate(invalid="ignore", divide="ignore"):
            direction = u / norm[:, :, None]
            margin = np.einsum("lrd,lnd->lrn", direction, selected).min(2)
            error = np.linalg.norm(direction - unit[:, None, :], axis=2)
            gap = 1 - margin * limit_norm[:, None]
        scores = np.where(problem.visible, np.einsum("itd,ld->lit", rows, u[:, -1]), -np.inf)
        return super().columns(view) | {
            "log10_loss": np.asarray(view.records.log_gap, np.float64) / LOG10,
            "decoder_norm": norm,
            "decoder_direction_error": error,
            "decoder_margin_gap": gap,
            "decoder": u[:, -1],
            "decoder_limit_norm": limit_norm,
            "final_scores": scores,
        }


def _classifiers(
    problem: Problem, selection: Int[np.ndarray, "lanes n"], solved: dict[Any, Any]
) -> tuple[Float[np.ndarray, "lanes d"], Float[np.ndarray, " lanes"]]:
    """u_mm/‖u_mm‖ and ‖u_mm‖ of each lane's selected tokens; NaN and inf where they are not separable."""
    found, inverse = each_once(selection, solved, lambda alpha: classifier(problem, alpha))
    units, norms = np.stack([unit for unit, _ in found]), np.array([norm for _, norm in found])
    return units[inverse], norms[inverse]

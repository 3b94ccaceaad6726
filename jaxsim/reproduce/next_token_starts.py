"""Where many starts of the local experiment end: one verdict for each, by selection (arXiv 2403.08081).

The thresholds of selection are the published ones, the verdicts a convention of this project.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxsim.analysis import wilson
from jaxsim.margin import SUPPORT_TOLERANCE, GraphSVM, graph_svm
from jaxsim.reproduce import draws
from jaxsim.reproduce import next_token_runs as runs
from jaxsim.reproduce.paths import cosine
from jaxsim.reproduce.result import Row

VERDICTS = ("global", "local", "transient", "unresolved", "infeasible")
MEANING = (
    "every sequence attends to tokens that reach its label and are reached from it, and no active token beats them",
    "to others, which no active token of their graph-SVM beats",
    "an active token beats what is selected, so that more steps are to leave it",
    "a token that is not selected has a weight above 0.001",
    "no W separates the selected tokens, or none was certified",
)
OPEN = 1e-3
CHUNK = 250  # runs at once: what a processor keeps near


def many(batch: runs.Batch, each: int) -> runs.Batch:
    """Every problem of the batch from `each` starts of our own, drawn by the published law."""
    parts = (batch.embeddings, batch.sequences, batch.labels)
    starts = draws.uniform_starts(0, each * len(batch.labels), runs.D, runs.D)
    return runs.Batch(*(np.repeat(part, each, axis=0) for part in parts), starts)  # type: ignore[arg-type]


def judge(batch: runs.Batch, path: runs.Path) -> tuple[Int[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """The verdict of every run at the last record, an index into VERDICTS; and the correlation of W with its limit."""
    phi, known = path.attention[-1], {}
    chosen = phi > runs.SELECTED
    g = runs.exact(phi, runs.squared(batch, phi, runs.exact, 0.0))
    verdicts, correlations = np.empty(len(phi), int), np.full(len(phi), np.nan)
    for k, (e, sequences, labels) in enumerate(zip(batch.embeddings, batch.sequences, batch.labels, strict=True)):
        key = (e.tobytes(), sequences.tobytes(), chosen[k].tobytes())
        if key not in known:
            known[key] = graph_svm(e, sequences, chosen[k]), graph_svm(e, sequences, labels)
        svm, of_labels = known[key]
        correlations[k] = cosine(path.W[-1, k], svm.W)
        verdicts[k] = VERDICTS.index(_verdict(svm, of_labels, phi[k], g[k]))
    return verdicts, correlations


def _verdict(svm: GraphSVM, of_labels: GraphSVM, phi: np.ndarray, g: np.ndarray) -> str:
    if (phi[~svm.chosen] > OPEN).any():
        return "unresolved"
    if svm.status != "optimal":
        return "infeasible"
    if beaten(svm, g):
        return "transient"
    own = np.take_along_axis(of_labels.components, of_labels.chosen.argmax(1)[:, None], 1)
    return "global" if (of_labels.components == own)[svm.chosen].all() else "local"


def beaten(svm: GraphSVM, g: Float[np.ndarray, "n T"]) -> bool:
    """Whether the loss falls where a token that is not selected, but active in the graph-SVM, gains weight.

    Sequences with the same last token share their constraints, so the gradient g in the logits is summed over them.
    """
    tokens = svm.embeddings[svm.sequences]
    logits = np.einsum("itd,de,ie->it", tokens, svm.W, tokens[:, -1])
    margins = np.where(svm.chosen, logits, -np.inf).max(1, keepdims=True) - logits
    active = ~svm.chosen & (margins <= 1 + SUPPORT_TOLERANCE)
    total = np.zeros((len(svm.embeddings),) * 2)
    np.add.at(total, (np.broadcast_to(svm.sequences[:, -1:], active.shape)[active], svm.sequences[active]), g[active])
    return bool((total < 0).any())


def rows(batch: runs.Batch, each: int, setting: Any) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Fractions of verdicts under right gradients and the published arithmetic, and the arrays behind them."""
    starts, arrays = many(batch, each), {}
    shares, total = {}, len(starts.labels)
    for name, published in (("right", False), ("original", True)):
        found = [_ends(_part(starts, k), setting, published) for k in range(0, total, CHUNK)]
        verdicts, correlations = (np.concatenate(part) for part in zip(*found, strict=True))
        arrays |= {f"starts_{name}_verdict": verdicts, f"starts_{name}_correlation": correlations}
        shares[name] = np.bincount(verdicts, minlength=len(VERDICTS))
    told = []
    for k, (verdict, meaning) in enumerate(zip(VERDICTS, MEANING, strict=True)):
        p = wilson(int(shares["right"][k]), total)
        note = f"{p.count} of {p.total}, interval [{p.low:.3f}, {p.high:.3f}]: {meaning}."
        name = f"local, {each} starts of every draw, step {setting.steps:,}: share {verdict}"
        told.append(Row(name, p.value, None, float(shares["original"][k] / total), note=note))
    return told, arrays


def _part(batch: runs.Batch, first: int) -> runs.Batch:
    return runs.Batch(*(getattr(batch, f.name)[first : first + CHUNK] for f in dataclasses.fields(batch)))


def _ends(batch: runs.Batch, setting: Any, published: bool) -> tuple[np.ndarray, np.ndarray]:
    how: Any = {"eta": setting.eta, "record": [setting.steps], "published": published}
    return judge(batch, runs.descend(batch, setting.loss, **how))

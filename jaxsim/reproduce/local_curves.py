"""What the local-convergence experiment measures: the curves of which its rows and figure are made."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from jaxsim.problem import Problem


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """Runs of one kind up to step 2,000, runs first.

    Attributes:
        selection: argmax of the final logits, (runs, n).
        softmax: the largest attention weight, mean over sequences, (runs, R).
        frobenius, nuclear: correlation of W with either att-SVM of `selection`, (runs, R).
    """

    selection: Int[np.ndarray, "runs n"]
    softmax: Float[np.ndarray, "runs R"]
    frobenius: Float[np.ndarray, "runs R"]
    nuclear: Float[np.ndarray, "runs R"]


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """All that the rows and the figure are made of.

    Attributes:
        saved: of the published run: starts, selection, at, correlation, for runs 0 to 49.
        problems: the data.
        steps: recorded steps up to 2,000; `deep_steps`: beyond.
        weights, key_query: with right gradients; `weights_original`, `key_query_original`: as published.
        against_published: correlation with the att-SVM of the published selection, right gradients, (50, R).
        step_length: of the original's last step over η, (runs,).
        deep_selection, deep_verdict: at the last deep step, right gradients, of runs 0 to 49.
        deep_correlation: with the att-SVM of `deep_selection`, at all steps up to the last, (50, R + more).
    """

    saved: dict[str, np.ndarray]
    problems: list[Problem]
    steps: Int[np.ndarray, " R"]
    deep_steps: Int[np.ndarray, " more"]
    weights: Curves
    weights_original: Curves
    key_query: Curves
    key_query_original: Curves
    against_published: Float[np.ndarray, "runs R"]
    step_length: Float[np.ndarray, " runs"]
    deep_selection: Int[np.ndarray, "runs n"]
    deep_verdict: np.ndarray
    deep_correlation: Float[np.ndarray, "runs all"]

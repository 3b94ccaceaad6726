"""Published experiments, run again: published and recomputed numbers side by side.

An experiment is a module with `run(quick) -> Result`, named in EXPERIMENTS.
"""

import importlib

import jax

from jaxsim.reproduce.result import Result, Row

EXPERIMENTS = {
    "local-convergence": "100 random problems under NGD, W and (K, Q) (arXiv 2308.16898)",
    "att-svm-rank": "rank of Frobenius and nuclear att-SVM solutions (arXiv 2308.16898)",
    "global-path": "paths in the plane: W, (K, Q) and a prompt p (arXiv 2308.16898, 2306.13596)",
    "joint": "a prompt p and the decoder v trained together (arXiv 2306.13596)",
    "losses": "linear against logistic loss (arXiv 2306.13596)",
    "multi-token": "a ReLU head: W as a finite part and an SVM direction (arXiv 2308.16898)",
    "next-token": "W as a finite part and a graph-SVM direction (arXiv 2403.08081)",
    "label-noise": "flipped labels fitted by attention, and what tests then do (arXiv 2409.17625)",
    "adaptive": "GD, NGD and Polyak's step beside linear logistic regression (arXiv 2402.05738)",
}

__all__ = ["EXPERIMENTS", "Result", "Row", "reproduce"]


def reproduce(name: str, quick: bool = False) -> Result:
    """Run one published experiment again.

    Args:
        name: a key of EXPERIMENTS.
        quick: at a size that takes seconds; then means over few problems may differ from what was published.

    Returns:
        Its `Result`: rows of published and recomputed numbers, a figure, arrays.

    Raises:
        ValueError: for an unknown name, or where JAX has float64 switched off.

    Example:
        >>> sorted(EXPERIMENTS)[:2]
        ['adaptive', 'att-svm-rank']
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"name: expected one of {', '.join(EXPERIMENTS)}; got {name!r}")
    if not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise ValueError(
            "dtype: expected float64, which published programs used and JAX has switched off in this process. "
            'Switch it on before the first computation: jax.config.update("jax_enable_x64", True).'
        )
    return importlib.import_module(f"jaxsim.reproduce.{name.replace('-', '_')}").run(quick)

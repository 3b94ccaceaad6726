"""Whether the heads of a lane have settled on different selections, or some of them on the same one."""

from typing import Any

import numpy as np

from jaxsim.analysis.intervals import Proportion, wilson
from jaxsim.analysis.verdict import SETTLED


def specialisation(run: Any, level: float = 0.95) -> dict[str, Proportion]:
    """How many lanes have heads that all differ, and how many have heads that do the same.

    Heads differ where in some sequence they select different tokens. A lane is *specialised* where it has settled
    (global or local) and all its heads differ, *redundant* where it has settled and two of its heads select the same
    tokens throughout, and *open* otherwise (conventions of this project). Denominators are all lanes.

    Args:
        run: a `Run` of `jaxsim.train.Heads`.
        level: of Wilson's intervals.

    Returns:
        "specialised", "redundant" and "open", which together are all lanes.

    Raises:
        ValueError: where one head was trained.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
        >>> run = jaxsim.simulate(
        ...     problem, jaxsim.rules.NGD(0.5), jaxsim.init.Zero(), key=jax.random.key(1), lanes=8, steps=500,
        ...     train=jaxsim.train.Heads(2),
        ... )
        >>> {name: share.count for name, share in specialisation(run).items()}  # alike heads that begin alike stay so
        {'specialised': 0, 'redundant': 8, 'open': 0}
    """
    if "distinct_heads" not in run.more:
        raise ValueError(f"run: expected one of jaxsim.train.Heads; got one of {run.settings.get('train', 'weights')}")
    settled, differ = np.isin(run.verdict, SETTLED), run.more["distinct_heads"][:, -1] == run.more["head_norm"].shape[1]
    counts = {"specialised": settled & differ, "redundant": settled & ~differ, "open": ~settled}
    return {name: wilson(int(np.count_nonzero(of)), run.lanes, level) for name, of in counts.items()}

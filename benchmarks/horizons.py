"""What becomes of verdicts at horizons that nobody can step to: `python -m benchmarks.horizons [LANES [gd|ngd]]`.

The digits 3 and 8 with one-hot positions, GD 1000 or NGD 0.5 from Gaussian starts of scale 3, as in `jaxsim run`.
"""

import sys
import time
from typing import Any

import jax
import numpy as np

import jaxsim

HORIZONS = (2_000, 10**6, 10**12, 10**15)
RULES = {"gd": jaxsim.rules.GD(1000.0), "ngd": jaxsim.rules.NGD(0.5)}
SHOWN = ("global", "local", "transient", "unresolved")


def main(lanes: int, rule: str = "gd") -> None:
    """Print one row per horizon, as a table of a page."""
    how: Any = dict(key=jax.random.key(0), lanes=lanes, record=(), limits="saturated")
    problem = jaxsim.data.digits((3, 8), 20, True)
    print(f"{lanes:,} lanes; share of verdicts in %, of lanes that were local at step 2,000 those that have moved")
    print("| steps | " + " | ".join(SHOWN) + " | moved | leaps, median | single steps, median | off by | seconds |")
    print("|---" * 10 + "|")
    first = None
    for steps in HORIZONS:
        began = time.perf_counter()
        run = jaxsim.simulate(problem, RULES[rule], jaxsim.init.Gaussian(3.0), steps=steps, **how)
        seconds, first = time.perf_counter() - began, first or run
        local = first.verdict == "local"
        moved = (run.selection != first.selection).any(1)[local].sum()
        shares = " | ".join(f"{100 * run.fractions()[name].value:.1f}" for name in SHOWN)
        costs = " | ".join(
            f"{value:.3g}" if name in run.report else "-"
            for name, middle in (("leaps", np.median), ("single_steps", np.median), ("leap_error", np.max))
            for value in [middle(run.report.get(name, [0.0]))]
        )
        print(f"| {steps:.0e} | {shares} | {moved} of {local.sum()} | {costs} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_enable_x64", True)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024, *sys.argv[2:3])

"""Lane-steps per second of `simulate`, whole: draws, steps, records, att-SVMs, verdicts; its answer checked first."""

import jax
import numpy as np

import jaxsim
from benchmarks.clock import median_seconds

RULES = {"ngd": jaxsim.rules.NGD(0.1), "gd": jaxsim.rules.GD(1.0), "polyak": jaxsim.rules.Polyak()}


def problem():
    """One problem of the published experiment's family: n=6, T=8, d=10."""
    return jaxsim.data.unit_sphere(jax.random.key(1), n=6, T=8, d=10)


def check(dtype):
    """A lane of the timed configuration must stay on the float64 trajectory, deep into saturation."""
    law = jaxsim.init.Given(np.random.default_rng(0).standard_normal((10, 10)))
    runs = [
        jaxsim.simulate(problem(), RULES["ngd"], law, key=jax.random.key(0), lanes=1, steps=2000, dtype=kind)
        for kind in (dtype, "float64")
    ]
    difference = np.abs(runs[0].final_logits - runs[1].final_logits).max() / np.abs(runs[1].final_logits).max()
    assert difference < 1e-5, f"wrong answer: {difference:.1e}"


def rate(rule, dtype, lanes, steps, repeats=5):
    """Lane-steps per second at about 20 log-spaced records."""
    record = np.unique(np.geomspace(1, steps, 20).astype(int)).tolist()

    def go():
        jaxsim.simulate(
            problem(), RULES[rule], jaxsim.init.Gaussian(0.5), key=jax.random.key(0), lanes=lanes, steps=steps,
            record=record, dtype=dtype,
        )  # fmt: skip

    return lanes * steps / median_seconds(go, repeats)

"""Going on until nothing is open."""

import jax
import numpy as np
import pytest

import jaxsim
from jaxsim import init, rules
from jaxsim.simulation.stepping import horizons

KEY = jax.random.key(0)


def test_horizons_grow_to_the_last():
    assert horizons(2_000, False) == [2_000] and horizons(500, True) == [500]
    assert horizons(30_000, False) == [2_000, 20_000, 30_000]
    assert horizons(10**12, True) == [2_000, 2 * 10**6, 2 * 10**9, 10**12]


def test_a_run_stops_at_the_first_horizon_with_nothing_open():
    problem = jaxsim.data.unit_sphere(KEY, n=3, T=4, d=5)
    how = dict(key=jax.random.key(1), lanes=16, limits="saturated")
    open_at = {
        steps: jaxsim.simulate(problem, rules.GD(1e-4), init.Gaussian(0.3), steps=steps, **how).open.sum()
        for steps in (2_000, 2 * 10**6, 2 * 10**9)
    }
    first = next(steps for steps, count in open_at.items() if count == 0)
    assert first > 2_000
    run = jaxsim.simulate(problem, rules.GD(1e-4), init.Gaussian(0.3), steps=10**15, until="resolved", **how)
    assert run.settings["steps"] == first and run.settings["until"] == "resolved" and not run.open.any()
    alone = jaxsim.simulate(problem, rules.GD(1e-4), init.Gaussian(0.3), steps=first, **how)
    assert np.array_equal(run.final_logits, alone.final_logits)


def test_what_is_open_at_the_last_horizon_is_told(tmp_path):
    problem = jaxsim.data.unit_sphere(KEY, n=3, T=4, d=5)
    run = jaxsim.simulate(
        problem, rules.NGD(1e-6), init.Gaussian(0.3), key=KEY, lanes=4, steps=3_000, record=[10, 2_500],
        until="resolved",
    )  # fmt: skip
    assert run.steps.tolist() == [10, 2_500, 3_000] and run.open.all()


def test_anything_else_is_refused():
    problem = jaxsim.data.unit_sphere(KEY, n=3, T=4, d=5)
    with pytest.raises(ValueError, match=r"until: expected one of resolved; got 'global'"):
        jaxsim.simulate(problem, rules.NGD(0.1), init.Gaussian(0.3), key=KEY, lanes=4, steps=10, until="global")

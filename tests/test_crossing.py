"""Where a fraction crosses a level: how often the interval holds, what it costs, and that of a real parameter."""

import jax
import numpy as np
import pytest

import jaxsim
from jaxsim.simulation.crossings import search


def coin(draws, truth=0.37, steepness=8.0):
    """Lanes that have the verdict with a probability that crosses one half at the truth."""

    def count(value, number, first, lanes):
        return int(draws.binomial(lanes, 1 / (1 + np.exp(steepness * (value - truth)))))

    return count


def test_the_interval_covers_as_often_as_it_says():
    """Of 300 searches 5% may miss, and three standard deviations; far fewer do, as every look is insured."""
    draws = np.random.default_rng(0)
    truths = draws.uniform(0.2, 0.8, 300)
    found = [search(coin(draws, truth), 0.0, 1.0, 0.05, 0.5, 0.95, 50_000) for truth in truths]
    missed = sum(not f.low < truth < f.high for f, truth in zip(found, truths, strict=True))
    assert missed <= 300 * (0.05 + 3 * np.sqrt(0.05 * 0.95 / 300))
    assert not any(f.rises for f in found) and all(f.high - f.low <= 0.05 for f in found if f.settled)
    assert sum(f.settled for f in found) > 280


def by_grid(count, values, most):
    """Lanes of a grid each value of which stops as soon as its side is known, by the same bounds."""
    lanes = 0
    for value in values:
        total, found, wanted, known = 0, 0, 100, False
        while not known and total < wanted:
            found += count(value, 0, 0, wanted - total)
            total, wanted = wanted, min(2 * wanted, most)
            low, high = jaxsim.analysis.anytime_bounds(found, total, 1 - 0.05 / len(values))
            known = low > 0.5 or high < 0.5
        lanes += total
    return lanes


def test_it_costs_less_than_the_grid_of_that_precision():
    """On average, since a grid does not stop where one of its values happens to be near the crossing."""
    draws, found, grids = np.random.default_rng(1), [], []
    for _ in range(40):
        count = coin(draws, draws.uniform(0.2, 0.8), 30.0)
        found.append(search(count, 0.0, 1.0, 0.02, 0.5, 0.95, 50_000).lanes.sum())
        grids.append(by_grid(count, np.linspace(0, 1, 51), 50_000))
    assert np.mean(found) < 0.7 * np.mean(grids)


@pytest.mark.parametrize("logarithmic", [False, True])
def test_the_radius_beyond_which_gradient_descent_is_lost(logarithmic):
    problem = jaxsim.data.unit_sphere(jax.random.key(1), n=4, T=5, d=8)

    def case(radius):
        return problem, jaxsim.rules.GD(10.0), jaxsim.init.Sphere(radius)

    how = dict(key=jax.random.key(0), steps=1000, level=0.5, max_lanes=2000, logarithmic=logarithmic)
    found = jaxsim.crossing(case, 0.5, 60.0, width=1.0 if logarithmic else 15.0, **how)
    again = jaxsim.crossing(case, 0.5, 60.0, width=1.0 if logarithmic else 15.0, **how)
    assert (found.low, found.high, found.lanes.tolist()) == (again.low, again.high, again.lanes.tolist())
    assert found.settled and not found.rises
    below, beyond = (
        jaxsim.simulate(*case(r), key=jax.random.key(9), lanes=500, steps=1000).fractions()["global"].value
        for r in (found.low / 1.5, found.high * 1.5)
    )
    assert below > 0.5 > beyond


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(level=1.5), "level: expected a number between 0 and 1; got 1.5"),
        (dict(high=0.1), "high: expected a number above low = 0.5; got 0.1"),
        (dict(low=0.0, logarithmic=True), "low: expected a number above 0"),
        (dict(width=0.0), "width: expected a number above 0"),
        (dict(verdict="lost"), "verdict: expected one of global, local"),
        (dict(high=0.6), "low, high: expected fractions on both sides of 0.5; at 0.5 and 0.6 it is above"),
        (dict(level=0.98, max_lanes=20), "low: expected a value at which the fraction is not 0.98; at 0.5"),
    ],
)  # fmt: skip
def test_bad_input(options, message):
    problem = jaxsim.data.unit_sphere(jax.random.key(1), n=4, T=5, d=8)

    def case(radius):
        return problem, jaxsim.rules.NGD(0.5), jaxsim.init.Sphere(radius)

    given = dict(low=0.5, high=60.0, key=jax.random.key(0), steps=100, width=1.0) | options
    with pytest.raises(ValueError, match=message):
        jaxsim.crossing(case, **given)

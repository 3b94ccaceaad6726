"""Where a fraction crosses a level: how often the interval holds, what it costs, and that of a real parameter."""

import jax
import numpy as np
import pytest
from commands import invoke

import jaxsim
from jaxsim.simulation.crossings import search
from jaxsim.study import build
from jaxsim.study.crossings import crossings

STUDY = dict(
    seed=1, steps=300, shard=20, dtype="float32", stop={"half_width": 0.05, "max_lanes": 2000},
    problem=[{"family": "unit-sphere", "n": 4, "T": 5, "d": 8, "seeds": 1}],
    init=[{"law": "sphere", "radius": [0.1, 3.0, 300.0]}, {"law": "gaussian", "scale": 1.0}],
    rule=[{"name": "ngd", "eta": [0.2, 0.6]}, {"name": "polyak"}],
)  # fmt: skip
TOML = """
seed = 1
steps = 300
shard = 20
[[problem]]
family = "unit-sphere"
n = 4
T = 5
d = 8
seeds = 1
[[init]]
law = "sphere"
radius = [0.1, 3, 300]
[[rule]]
name = "ngd"
eta = 0.2
[[rule]]
name = "polyak"
[stop]
lanes = 2000
"""


def coin(draws, truth=0.37, steepness=8.0):
    """Lanes that have the verdict with a probability that crosses one half at the truth."""

    def count(value, number, first, lanes):
        return int(draws.binomial(lanes, 1 / (1 + np.exp(steepness * (value - truth)))))

    return count


@pytest.mark.slow
def test_the_interval_covers_as_often_as_it_says():
    """Of 300 searches 5% may miss, and three standard deviations; far fewer do, as every look is insured."""
    draws = np.random.default_rng(0)
    truths = draws.uniform(0.2, 0.8, 300)
    found = [search(coin(draws, truth), 0.0, 1.0, 0.05, 0.5, 0.95, 50_000) for truth in truths]
    missed = sum(not f.low < truth < f.high for f, truth in zip(found, truths, strict=True))
    assert missed <= 300 * (0.05 + 3 * np.sqrt(0.05 * 0.95 / 300))
    assert not any(f.rises for f in found) and all(f.high - f.low <= 0.05 for f in found if f.settled)
    assert sum(f.settled for f in found) > 280


def test_with_few_lanes_it_comes_as_near_as_they_can_tell():
    """With 300 lanes a share of 0.5 is told from one of 0.65 or so, which is 0.08 away from the crossing."""
    draws, found = np.random.default_rng(2), []
    for _ in range(60):
        truth = draws.uniform(0.2, 0.8)
        one = search(coin(draws, truth), -2.0, 3.0, 0.01, 0.5, 0.95, 300)
        assert not one.settled and one.low < truth < one.high
        found.append(one.high - one.low)
    assert np.median(found) < 0.35 and max(found) < 0.7


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


def test_a_study_says_where_its_fraction_crosses():
    study, seen = build(**STUDY), []
    found = crossings(study, "radius", {}, width=0.5, progress=lambda done, of: seen.append((done, of)))
    assert [one.labels for one in found] == [
        ("unit-sphere", "sphere", "ngd eta=0.2"), ("unit-sphere", "sphere", "ngd eta=0.6"),
        ("unit-sphere", "sphere", "polyak"),
    ]  # fmt: skip
    assert seen == [(1, 3), (2, 3), (3, 3)] and {(one.low, one.high) for one in found} == {(0.1, 300.0)}
    problem = jaxsim.data.unit_sphere(jax.random.key(1), n=4, T=5, d=8)
    for one, eta in zip(found[:2], (0.2, 0.6), strict=True):
        assert one.found is not None and not one.found.rises
        below, beyond = (
            jaxsim.simulate(
                problem, jaxsim.rules.NGD(eta), jaxsim.init.Sphere(radius), key=jax.random.key(5), lanes=1000,
                steps=300, dtype="float32",
            ).fractions()["global"].value
            for radius in (one.found.low / 1.5, one.found.high * 1.5)
        )  # fmt: skip
        assert below > 0.5 > beyond
    assert found[2].found is None and found[2].why == "at 0.1 and 300 it is above"
    for name in ("n", "scale", "seed", "beta"):
        with pytest.raises(
            ValueError, match="expected a number that is swept and is no whole number, one of eta, radius"
        ):
            crossings(study, name, {})


def test_the_command_prints_the_crossings(tmp_path):
    (tmp_path / "s.toml").write_text(TOML)
    done = invoke("study", "crossing", "s.toml", "--against", "radius", "--width", "1", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "fraction global crosses 0.5" in done.out and "falls" in done.out
    assert "unit-sphere; sphere; polyak: at 0.1 and 300 it is above" in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["s.toml"]
    done = invoke("study", "crossing", "s.toml", "--against", "eta", cwd=tmp_path)
    assert done.code == 2 and "against: expected a number that is swept" in done.err
    done = invoke("study", "crossing", "s.toml", "--against", "radius", "--level", "2", cwd=tmp_path)
    assert done.code == 2 and "level: expected a number between 0 and 1; got 2" in done.err


def test_what_a_study_cannot_be_asked():
    plane = build(**STUDY | {
        "init": [{"law": "random-plane", "resolution": [4, 5]}], "stop": {"lanes": 20},
    })  # fmt: skip
    found = crossings(plane, "eta", {})
    assert found and all(one.found is None and "lie on a grid" in one.why for one in found)
    single = build(**STUDY | {"rule": [{"name": "gd", "eta": 1.0}, {"name": "ngd", "eta": 0.1}]})
    with pytest.raises(ValueError, match="against: expected a number of which one choice has several values"):
        crossings(single, "eta", {})
    both = build(**STUDY | {
        "init": [{"law": "gaussian", "scale": [0.1, 1.0]}], "rule": [{"name": "polyak", "scale": [0.5, 1.0]}],
    })  # fmt: skip
    with pytest.raises(ValueError, match="one of init.scale, rule.scale; got 'scale'"):
        crossings(both, "scale", {})
    assert len(crossings(both, "rule.scale", {}, width=5.0)) == 2
    decay = build(**STUDY | {"rule": [{"name": "heavy-ball", "eta": 1.0, "beta": [0.0, 0.9]}]})
    assert all(one.why.startswith("low: expected a number above 0") for one in crossings(decay, "beta", {}))

"""Basins at the sizes that users run; pytest -m slow -s prints the times."""

import time

import jax
import numpy as np
import pytest

import jaxsim
from jaxsim import basins
from jaxsim.analysis import VERDICTS

pytestmark = pytest.mark.slow
NGD = jaxsim.rules.NGD(0.1)


@pytest.fixture(scope="module")
def problem():
    return jaxsim.data.unit_sphere(jax.random.key(3), n=6, T=8, d=10)


def clocked(what, work):
    began = time.perf_counter()
    result = work()
    print(f"\n{what}: {time.perf_counter() - began:.1f} s")
    return result, time.perf_counter() - began


def test_a_map_of_512_by_512(problem):
    plane = basins.random_plane(problem, jax.random.key(0))
    found, seconds = clocked(
        "512 × 512 pixels × 2,000 steps, float32",
        lambda: basins.basin_map(problem, NGD, plane, resolution=(512, 512), steps=2000, dtype="float32"),
    )
    assert found.computed.all() and (found.verdict >= 0).all()
    assert seconds < 90


def test_the_map_of_a_study_costs_what_the_map_alone_costs(tmp_path):
    record = [10, 20, 50, 100, 200, 500, 1000, 2000]
    plane = {"law": "random-plane", "resolution": [512, 512]}
    study = jaxsim.study.build(
        steps=2000, record=record, dtype="float32", limits="saturated", shard=8192, stop={"lanes": 512**2},
        problem=[{"family": "unit-sphere"}], init=[plane], rule=[{"name": "ngd", "eta": 0.1}],
    )  # fmt: skip
    known = jaxsim.data.unit_sphere(jax.random.key(0))
    _, whole = clocked("the study", lambda: jaxsim.study.run(study, tmp_path / "study"))
    alone, seconds = clocked(
        "the map alone",
        lambda: basins.basin_map(
            known, NGD, basins.random_plane(known, jax.random.key(0)), resolution=(512, 512), steps=2000,
            record=record, dtype="float32",
        ),
    )  # fmt: skip
    found = jaxsim.study.basin_map(jaxsim.open_study(tmp_path / "study"), 0)
    differ = (found.verdict != alone.verdict) & (alone.verdict < VERDICTS.index("transient"))
    print(f"{differ.sum()} pixels differ")
    assert differ.mean() < 1e-4 and whole < 1.5 * seconds


def test_a_thousand_edge_pairs(problem):
    run = jaxsim.simulate(
        problem, NGD, jaxsim.init.Gaussian(1.0), key=jax.random.key(0), lanes=4096, steps=2000, record=[2000]
    )
    goes = (run.selection == problem.optimal).all(1)
    pick = np.random.default_rng(0).choice  # 1,000 different pairs, of fewer different starts
    inside, outside = (run.start[pick(np.flatnonzero(which), 1000)] for which in (goes, ~goes))
    found, seconds = clocked(
        "1,000 pairs to 1e-10, float64", lambda: basins.edges(problem, NGD, inside, outside, gap=1e-10, dtype="float64")
    )
    assert found.gap.max() <= 1e-10 and seconds < 60


def test_a_shell_curve_of_twenty_radii(problem):
    """20 radii × 100,000 lanes × 3 rules; 400 steps, 16 logits a run."""
    small = jaxsim.data.unit_sphere(jax.random.key(2), n=4, T=4, d=6)
    radii = np.geomspace(0.1, 100, 20)
    rules = jaxsim.rules.GD(10.0), NGD, jaxsim.rules.Polyak()

    def curves():
        return [
            basins.shells(small, rule, radii, key=jax.random.key(1), lanes=100_000, steps=400, dtype="float32")
            for rule in rules
        ]

    found, seconds = clocked("20 radii × 100,000 lanes × 3 rules × 400 steps, float32", curves)
    for one in found:
        assert (one.counts.sum((1, 2)) == 100_000).all()
        print(one.settings["rule"], [round(p.value, 3) for p in one.fractions()])
    assert seconds < 300

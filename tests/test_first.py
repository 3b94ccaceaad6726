"""Lanes from the middle of a longer run: the same draws, and the same bits where blocks are as wide."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxsim
from jaxsim import init, rules
from jaxsim.simulation import Options
from jaxsim.simulation.work import prepare

OPTIONS = dict(steps=60, record=[0, 5])


def columns(run, start=0):
    """Everything that has lanes first, and the table, from lane `start` on."""
    arrays = {name: getattr(run, name)[start:] for name in ("start", "outside", "final_logits", "norm", "log10_gap")}
    return arrays | {"lane": run.to_pandas()["lane"].to_numpy()[start:], "verdict": run.verdict[start:]}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_bit_for_bit_and_trajectories_to_rounding(problem, key, dtype):
    rule, law = rules.NGD(0.1), init.Sphere(2.0)
    whole = columns(jaxsim.simulate(problem, rule, law, key=key, lanes=150, dtype=dtype, **OPTIONS), 100)
    part = columns(jaxsim.simulate(problem, rule, law, key=key, lanes=50, first=100, dtype=dtype, **OPTIONS))
    for name in ("start", "lane", "verdict"):
        assert part[name].tobytes() == whole[name].tobytes(), name
    for name in ("outside", "final_logits", "norm", "log10_gap"):
        np.testing.assert_allclose(part[name], whole[name], rtol=2e-4 if dtype == "float32" else 1e-11, err_msg=name)


@pytest.mark.promise
@pytest.mark.parametrize("rule", [rules.NGD(0.1), rules.Polyak()])
def test_bit_for_bit_where_blocks_are_as_wide(problem, key, rule):
    law = init.Gaussian(1.0)
    whole = columns(jaxsim.simulate(problem, rule, law, key=key, lanes=128, **OPTIONS), 16)
    part = columns(jaxsim.simulate(problem, rule, law, key=key, lanes=112, first=16, **OPTIONS))
    for name, value in part.items():
        assert value.tobytes() == whole[name].tobytes(), name


@pytest.mark.promise
def test_given_starts_and_lifted_matrices_are_those_of_the_same_lanes(problem, key):
    rng = np.random.default_rng(0)
    space = jaxsim.basins.random_plane(problem, key)
    span = init.Span(rng.standard_normal((3, 5, 5)), rng.standard_normal((20, 3)))
    pixels = jaxsim.basins.Pixels(space, (-3, 3, -2, 2), (5, 4))
    for law in (init.Given(rng.standard_normal((20, 5, 5))), init.Gaussian(1.0), span, pixels):
        whole = jaxsim.simulate(problem, rules.NGD(0.1), law, key=key, lanes=20, **OPTIONS)
        part = jaxsim.simulate(problem, rules.NGD(0.1), law, key=key, lanes=6, first=14, **OPTIONS)
        np.testing.assert_allclose(part.start, whole.start[14:], rtol=1e-13)
        for lane in (0, 5):
            np.testing.assert_allclose(part.W(lane), whole.W(14 + lane), rtol=1e-9, atol=1e-12)


def test_factors_and_surveys_take_a_first_lane_too(problem, key):
    train = jaxsim.train.KeyQuery(3, nuclear=False)
    options = dict(key=key, train=train, **OPTIONS)
    whole = jaxsim.simulate(problem, rules.NGD(0.1), init.Gaussian(0.5), lanes=12, **options)
    part = jaxsim.simulate(problem, rules.NGD(0.1), init.Gaussian(0.5), lanes=4, first=8, **options)
    np.testing.assert_allclose(part.start, whole.start[8:], rtol=1e-12)
    tables = []
    found = jaxsim.survey(
        problem, rules.NGD(0.1), init.Gaussian(0.5), key=key, lanes=30, first=70, chunk_bytes=2**14,
        each=tables.append, **OPTIONS,
    )  # fmt: skip
    assert found.settings["first"] == 70
    assert np.concatenate([table["lane"] for table in tables]).tolist() == list(range(70, 100))


def test_work_done_again_elsewhere_is_the_work_of_that_place(problem, key):
    common = dict(lanes=16, options=Options(40))
    first = prepare(problem, rules.NGD(0.1), init.Gaussian(1.0), key=key, **common)
    list(first.parts())
    other = jax.random.fold_in(key, 1)
    again = first.again(rules.NGD(0.2), init.Gaussian(2.0), other, 32)
    fresh = prepare(problem, rules.NGD(0.2), init.Gaussian(2.0), key=other, first=32, **common)
    mine, theirs = (jax.tree.map(np.asarray, vars(next(work.parts()))) for work in (again, fresh))
    for name in set(mine) - {"selection_number"}:
        a, b = (jax.tree.leaves(part[name]) for part in (mine, theirs))
        assert [x.tobytes() for x in a] == [x.tobytes() for x in b], name
    assert dataclasses.asdict(again.options.thresholds) == dataclasses.asdict(fresh.options.thresholds)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(first=-1), "first: expected at least 0; got -1"),
        (dict(first=2.5), "first: expected a whole number"),
        (dict(first=2**32), "lanes: expected first \\+ lanes at most 2\\^32"),
    ],
)
def test_bad_first_lanes_are_refused(problem, key, wrong, message):
    with pytest.raises(ValueError, match=message):
        jaxsim.simulate(problem, rules.NGD(0.1), init.Zero(), key=key, lanes=4, steps=5, **wrong)

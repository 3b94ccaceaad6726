"""Sweeps: what comes out at every point is what `simulate` gives there, and lanes have rules of their own."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxsim
from jaxsim import driver, init, rules
from jaxsim.coordinates import as_device
from jaxsim.rules.base import Stateless, pytree, times
from jaxsim.simulation.options import Options
from jaxsim.simulation.work import prepare

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def problem():
    return jaxsim.data.unit_sphere(jax.random.key(0), n=4, T=5, d=8)


def assert_is_what_simulate_gives(problem, sweep, steps, within=1e-9, **how):
    for point, run in zip(sweep.points(), sweep, strict=True):
        rule = rules.build(run.settings["rule_data"])
        of_rule = run.settings["rule_data"] | {"radius": point.get("radius")}
        assert point == {name: of_rule[name] for name in point}
        law = init.Sphere(point["radius"]) if "radius" in point else how["init"]
        alone = jaxsim.simulate(problem, rule, law, key=KEY, lanes=sweep.runs[0].lanes, steps=steps, dtype="float64")
        np.testing.assert_array_equal(run.selections, alone.selections)
        np.testing.assert_array_equal(run.selection_number, alone.selection_number)
        np.testing.assert_array_equal(run.verdict, alone.verdict)
        np.testing.assert_allclose(run.final_logits, alone.final_logits, rtol=within, atol=within)
        np.testing.assert_allclose(run.direction_error, alone.direction_error, rtol=within, atol=within)
        np.testing.assert_allclose(run.norm, alone.norm, rtol=within)
        np.testing.assert_allclose(run.start, alone.start, rtol=1e-12, atol=1e-12)
        told = [{name: str(value) for name, value in r.settings.items() if name != "seconds"} for r in (run, alone)]
        assert told[0] == told[1]


def test_every_point_is_what_simulate_gives(problem):
    seen = []
    sweep = jaxsim.sweep(
        problem, rules.NGD(np.geomspace(0.1, 1, 3)), init.Sphere([1, 100]), key=KEY, lanes=21, steps=200,
        dtype="float64", progress=lambda done, of: seen.append((done, of)),
    )  # fmt: skip
    assert sweep.shape == (3, 2) and seen == [(k, 6) for k in range(1, 7)]
    assert len({tuple(run.final_logits.ravel()) for run in sweep}) == 6
    assert_is_what_simulate_gives(problem, sweep, 200)


@pytest.mark.parametrize("chunk", [5, 64])
def test_points_may_be_spread_over_chunks(problem, chunk):
    sweep = jaxsim.sweep(
        problem, rules.GD([1.0, 10.0]), init.Sphere([1, 30]), key=KEY, lanes=50, steps=100, dtype="float64",
        chunk_lanes=chunk,
    )  # fmt: skip
    assert_is_what_simulate_gives(problem, sweep, 100)


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        (rules.Polyak([0.5, 1.0], max_step=[1.0, 1000.0]), 100), (rules.HeavyBall(1.0, beta=[0.5, 0.9]), 100),
        (rules.NormalisedMomentum([0.1, 0.2], beta=0.8), 100), (rules.Mirror(0.1, p=[1.2, 2.0, 3.0]), 100),
        (rules.Adam([0.01, 0.1], beta1=[0.5, 0.9]), 100), (rules.Spectral([0.05, 0.1]), 100),
        (rules.Muon([0.05, 0.1]), 100), (rules.AdaGradNorm([1.0, 3.0], b0=[0.5, 1.0]), 20_000),
        (rules.GD([1.0, 10.0, 100.0]), 20_000),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int) else str(value),
)  # fmt: skip
def test_any_number_of_any_rule_is_an_axis(problem, rule, steps):
    law = init.Gaussian(0.3)
    sweep = jaxsim.sweep(problem, rule, law, key=KEY, lanes=6, steps=steps, dtype="float64")
    assert_is_what_simulate_gives(problem, sweep, steps, within=1e-8, init=law)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("engine", ["xla", "native"])
@pytest.mark.parametrize(
    ("rule", "steps"),
    [(rules.GD(10.0), 5000), (rules.NGD(0.1), 300), (rules.Polyak(), 300), (rules.Nesterov(1.0), 300)],
)
def test_a_rule_per_lane_changes_no_bit(problem, rule, steps, engine, dtype):
    options = Options(steps, dtype=dtype, engine=engine)
    work = prepare(problem, rule, init.Sphere(3.0), options, key=KEY, lanes=64)
    if engine == "native" and work.engine.name != "native":
        pytest.skip("no compiler")
    (chunk,) = work.chunks()
    (start,) = work.starts()
    size = work.plan.width * work.plan.blocks
    own = dataclasses.replace(start, rule=jax.tree.map(lambda leaf: np.full(size, leaf), rule))
    (apart,) = driver.run(
        work.model, as_device(rule, dtype), [own], work.options.recorded, work.plan, work.far, work.engine
    )
    everything = slice(None)
    jax.tree.map(np.testing.assert_array_equal, chunk.results(everything), apart.results(everything))


@pytree
class Averaged(Stateless):
    """Gradient descent by the mean of an array: one that is of the rule, and of no lane."""

    most: object
    sizes: object = dataclasses.field(init=False)

    name = "averaged"
    stepped_because = None

    def __post_init__(self):
        object.__setattr__(self, "sizes", np.linspace(1.0, self.most, 4))

    def update(self, gradient, state, step):
        """-η ∇L."""
        eta = self.sizes.mean()
        return tuple(times(-eta * jax.numpy.exp(b.log_scale), b.direction) for b in gradient.blocks), state


def test_an_array_of_a_rule_is_no_number_per_lane(problem):
    how: dict = dict(key=KEY, lanes=70, steps=5000, dtype="float64", engine="xla")
    run = jaxsim.simulate(problem, Averaged(7.0), init.Sphere(3.0), **how)
    same = jaxsim.simulate(problem, rules.GD(4.0), init.Sphere(3.0), **how)
    np.testing.assert_allclose(run.norm, same.norm, rtol=1e-9)
    np.testing.assert_array_equal(run.report["leaps"], same.report["leaps"])
    swept = jaxsim.sweep(problem, Averaged(7.0), init.Sphere([1.0, 3.0]), **how)
    np.testing.assert_allclose(swept.at(radius=3).norm, same.norm, rtol=1e-9)


def test_given_starts_and_what_else_is_trained(problem):
    given = init.Given(np.random.default_rng(0).normal(size=(7, 8, 8)))
    sweep = jaxsim.sweep(problem, rules.NGD([0.1, 0.5]), given, key=KEY, lanes=7, steps=50, dtype="float64")
    assert_is_what_simulate_gives(problem, sweep, 50, init=given)
    joint = jaxsim.sweep(
        problem, rules.NGD([0.1, 0.5]), init.Sphere(1.0), key=KEY, lanes=7, steps=50, dtype="float64",
        train=jaxsim.train.Joint(),
    )  # fmt: skip
    alone = jaxsim.simulate(
        problem, rules.NGD(0.5), init.Sphere(1.0), key=KEY, lanes=7, steps=50, dtype="float64",
        train=jaxsim.train.Joint(),
    )  # fmt: skip
    for name, values in alone.more.items():
        np.testing.assert_allclose(joint.at(eta=0.5).more[name], values, rtol=1e-9, atol=1e-9)


def test_coordinates_tables_and_figures(problem):
    sweep = jaxsim.sweep(problem, rules.NGD([0.3, 0.1]), init.Sphere([1, 10, 100]), key=KEY, lanes=10, steps=100)
    assert sweep.at(eta=0.1, radius=10.0) is sweep.runs[4] and len(sweep) == 6
    table = sweep.to_pandas()
    assert table["eta"].tolist() == [0.3] * 3 + [0.1] * 3 and table["radius"].tolist() == [1, 10, 100] * 2
    whole = sweep.to_xarray()
    assert whole.sizes["eta"] == 2 and whole.sizes["radius"] == 3 and whole.sizes["lane"] == 10
    np.testing.assert_array_equal(whole.direction_error.sel(eta=0.1, radius=10), sweep.runs[4].direction_error)
    assert "steps" in whole.attrs and "rule" not in whole.attrs
    found = sweep.fractions()
    for k, point in enumerate(sweep.points()):
        cell = found.isel(problem=0, rule=k // 3, init=k % 3)
        assert (float(cell.rule_eta), float(cell.init_radius)) == (point["eta"], point["radius"])
        assert float(cell.fraction.sel(verdict="global")) == sweep.runs[k].fractions()["global"].value
    assert len(sweep.plot().axes) == 2  # a heat map and its bar
    (lines,) = sweep.plot("radius").axes
    assert len(lines.lines) == 2
    assert "eta 0.3, 0.1, radius 1, 10, 100" in repr(sweep)
    for name in ("verdict", "verdict_by_direction", "selection_number", "limit_norm"):
        assert set(whole[name].dims) == {"eta", "radius", "lane"}
    both = jaxsim.sweep(problem, rules.Polyak([0.5, 1.0]), init.Gaussian([0.3, 1.1]), key=KEY, lanes=5, steps=20)
    assert list(both.axes) == ["scale", "init_scale"]
    assert len(both.plot().axes) == 2
    for name, values in both.axes.items():
        assert both.plot(name).axes[0].lines[0].get_xdata().tolist() == list(values)
    with pytest.raises(ValueError, match="against: expected one or two of scale, init_scale; got 'eta'"):
        both.plot("eta")


def test_what_is_wrong_is_said(problem):
    how: dict = dict(key=KEY, lanes=2, steps=10)
    with pytest.raises(ValueError, match="rule: NGD has 2 values of eta; expected one. jaxsim.sweep runs them all"):
        jaxsim.simulate(problem, rules.NGD([0.1, 0.2]), init.Sphere(1.0), **how)
    with pytest.raises(ValueError, match="init: Sphere has 2 values of radius"):
        jaxsim.simulate(problem, rules.NGD(0.1), init.Sphere([1, 2]), **how)
    with pytest.raises(ValueError, match="init: Sphere has 2 values of radius"):
        jaxsim.simulate_many([problem], rules.NGD(0.1), init.Sphere([1, 2]), **how)
    with pytest.raises(ValueError, match="NGD has 2 values of eta"):
        rules.PerBlock(rules.NGD([0.1, 0.2]), rules.GD(1.0))
    with pytest.raises(ValueError, match="expected a list in the place of a number"):
        jaxsim.sweep(problem, rules.NGD(0.1), init.Sphere(1.0), **how)
    with pytest.raises(ValueError, match=r"eta\[1\]: expected a number above 0; got -1"):
        rules.NGD([0.1, -1])
    with pytest.raises(ValueError, match="eta: expected one number, or several that differ"):
        rules.NGD([0.1, 0.1])
    with pytest.raises(ValueError, match="radius: expected one number, or several that differ"):
        init.Sphere([])
    with pytest.raises(ValueError, match="eta: expected a number; got"):
        rules.NGD(np.ones((2, 2)))
    with pytest.raises(ValueError, match="lanes: expected at least 1; got 0"):
        jaxsim.sweep(problem, rules.NGD([0.1, 0.2]), init.Sphere(1.0), key=KEY, lanes=0, steps=10)
    sweep = jaxsim.sweep(problem, rules.NGD([0.1, 0.2]), init.Sphere(1.0), **how)
    with pytest.raises(ValueError, match=r"eta: expected one of 0.1, 0.2; got 0.3"):
        sweep.at(eta=0.3)
    with pytest.raises(ValueError, match="eta: expected a value, one of 0.1, 0.2"):
        sweep.at()
    with pytest.raises(ValueError, match="beta: expected one of eta"):
        sweep.at(beta=0.3)

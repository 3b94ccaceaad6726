"""Surveys: the counts and quantiles of the lanes that simulate keeps, in constant memory."""

import jax
import numpy as np
import pandas
import pytest

import jaxsim
from jaxsim import init, rules, storage, train
from jaxsim.analysis import VERDICTS, Sketch

KEY = jax.random.key(5)
OPTIONS = dict(key=KEY, lanes=700, steps=300)


@pytest.fixture(scope="module")
def problem():
    return jaxsim.data.unit_sphere(jax.random.key(2), n=3, T=4, d=5)


@pytest.fixture(scope="module")
def pair(problem):
    rule, law = rules.Polyak(), init.Gaussian(2.0)
    return jaxsim.simulate(problem, rule, law, **OPTIONS), jaxsim.survey(
        problem, rule, law, chunk_bytes=2**16, **OPTIONS
    )


def test_counts_are_those_of_the_lanes(pair):
    run, found = pair
    assert found.lanes == run.lanes
    for k, alpha in enumerate(found.selections):
        mine = (run.selection == alpha).all(1)
        for j, name in enumerate(VERDICTS):
            assert found.counts[k, j] == np.sum(mine & (run.verdict == name))
    assert {name: p.count for name, p in found.fractions().items()} == {
        name: p.count for name, p in run.fractions().items()
    }
    assert found.report["capped_steps"] == run.report["capped_steps"].sum()


def test_hitting_times_are_those_of_the_lanes(pair):
    run, found = pair
    saturated = run.log10_attention_gap <= np.log10(run.thresholds.saturation)
    assert found.hitting.sum() == run.lanes
    for r in range(len(run.steps)):
        assert found.hitting[:, : r + 1].sum() == saturated[:, : r + 1].any(1).sum()


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95])
def test_quantiles_are_within_the_stated_error(pair, q):
    run, found = pair
    for name, values in (("log10_grad_norm", run.log10_grad_norm), ("log10_norm", np.log10(run.norm))):
        exact = np.quantile(values, q, axis=0, method="inverted_cdf")
        assert np.all(np.abs(found.quantile(name, q) - exact) <= np.maximum(0.00501 * np.abs(exact), 1e-5))


def test_a_sketch_of_nothing_and_of_nan():
    sketch = Sketch(2)
    assert np.isnan(sketch.quantile(0.5)).all()
    sketch.add(np.array([[np.nan, -np.inf], [3.0, np.inf]]))
    assert sketch.missing.tolist() == [1, 0]
    assert abs(sketch.quantile(0.5)[0] - 3.0) < 0.02
    assert sketch.quantile(0.0)[1] < -9.9e8 and sketch.quantile(1.0)[1] > 9.9e8


def test_the_lane_table_is_streamed_and_complete(problem, pair, tmp_path):
    run, _ = pair
    chunks = []
    with storage.lane_table(tmp_path / "lanes.parquet") as write:

        def each(table):
            chunks.append(len(table))
            write(table)

        jaxsim.survey(problem, rules.Polyak(), init.Gaussian(2.0), chunk_bytes=2**16, each=each, **OPTIONS)
        assert not (tmp_path / "lanes.parquet").exists()
    assert len(chunks) > 1 and [p.name for p in tmp_path.iterdir()] == ["lanes.parquet"]
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "lanes.parquet"), run.to_pandas())


def test_a_table_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), storage.lane_table(tmp_path / "lanes.parquet") as write:
        write(pandas.DataFrame({"lane": [0]}))
        raise KeyError
    assert not list(tmp_path.iterdir())
    (tmp_path / "lanes.parquet").write_text("")
    with pytest.raises(ValueError, match="path: expected a new file"), storage.lane_table(tmp_path / "lanes.parquet"):
        pass
    with pytest.raises(ValueError, match="path: cannot write"), storage.lane_table(tmp_path / "no" / "x") as write:
        write(pandas.DataFrame({"lane": [0]}))


def test_unknown_curve_and_quantile(pair):
    with pytest.raises(ValueError, match="curve: expected one of log10_direction_error, .*; got 'norm'"):
        pair[1].quantile("norm", 0.5)
    with pytest.raises(ValueError, match="q: expected a number from 0 to 1; got 2"):
        pair[1].quantile("log10_norm", 2)


@pytest.mark.parametrize("how", [train.Joint(batch=2, key=jax.random.key(3)), train.KeyQuery(2)], ids=["joint", "kq"])
def test_more_than_W_may_be_trained(problem, how):
    options = dict(key=jax.random.key(0), lanes=40, steps=300, train=how)
    run = jaxsim.simulate(problem, rules.NGD(0.3), init.Gaussian(0.3), **options)
    found = jaxsim.survey(problem, rules.NGD(0.3), init.Gaussian(0.3), chunk_bytes=2**14, **options)
    assert {name: p.count for name, p in found.fractions().items()} == {
        name: p.count for name, p in run.fractions().items()
    }
    name = "decoder_norm" if isinstance(how, train.Joint) else "nuclear_direction_error"
    wanted = np.quantile(run.more[name][:, -1], 0.5, method="inverted_cdf")
    assert abs(found.quantile(name, 0.5)[-1] - wanted) < 0.006 * wanted
    assert name in run.to_pandas()

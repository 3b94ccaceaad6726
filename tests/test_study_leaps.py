"""Studies whose horizon nobody can step to."""

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from study_files import TOML, contents, small

import jaxsim.basins
import jaxsim.study

FAR = dict(
    steps=1e15, record=[100, 10**6], dtype="float64", shard=20, stop={"lanes": 60},
    rule=[{"name": "gd", "eta": 10.0}, {"name": "adagrad-norm", "eta": 1.0}],
)  # fmt: skip


def stopped_after(shards):
    def progress(state):
        if state.new_shards >= shards:
            raise KeyboardInterrupt

    return progress


def test_a_study_that_leaps_goes_on_byte_for_byte(tmp_path):
    study = small(**FAR)
    jaxsim.study.run(study, tmp_path / "whole")
    for shards in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            jaxsim.study.run(study, tmp_path / "cut", progress=stopped_after(shards))
    jaxsim.study.run(study, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "whole")[0]) == 12


def test_its_columns_hold_steps_beyond_32_bits(tmp_path):
    reader = jaxsim.open_study(_run(small(**FAR, seed=3), tmp_path))
    assert reader.study.steps == 10**15 and reader.study.record == [100, 10**6, 10**15]
    table = reader.table().to_table().to_pandas()
    steps = [0, 100, 10**6, 10**15, -1]
    assert set(np.unique(table["settled_step"])) <= set(map(float, steps)) and (table["nonfinite_step"] == -1).all()
    assert (table["leaps"] > 10).all() and (table["leapt_from"] >= 2000).all() and table["stuck_at"].isna().all()
    assert (table["leap_error"] < 1e-8).all()
    name = next(iter(contents(reader.folder)[0]))
    assert str(pq.read_schema(reader.folder / name).field("settled_step").type) == "double"


def _run(study, place):
    jaxsim.study.run(study, place)
    return place


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("steps = 1e15", "line 3: steps: expected at most 2147483647, because polyak is stepped"),
        ('steps = 100\nstepping = "leap"', "line 4: stepping: expected 'auto' or 'every', because polyak is stepped"),
        ("steps = 1e31", "line 3: steps: expected at most 1e+30; got 9999"),
        ("steps = 1.5", "line 3: steps: expected a whole number"),
        ('steps = 10\nstepping = "sometimes"', "line 4: stepping: expected auto, every or leap"),
    ],
)
def test_a_horizon_that_a_rule_cannot_reach_is_refused_with_key_and_line(tmp_path, line, said):
    path = tmp_path / "study.toml"
    polyak = TOML.replace('"ngd"\neta = [0.1, 0.2]', '"polyak"')
    path.write_text(polyak.replace("steps = 60", line))
    with pytest.raises(ValueError) as error:
        jaxsim.study.load(path)
    assert said in str(error.value)


def test_the_hash_of_studies_before_is_as_it_was():
    assert "stepping" not in small().what_shards_depend_on()
    assert small(stepping="every").hash != small().hash


@pytest.mark.slow
def test_a_map_of_basins_takes_any_horizon():
    problem = jaxsim.data.unit_sphere(jax.random.key(3), n=3, T=4, d=5)
    plane = jaxsim.basins.random_plane(problem, jax.random.key(0))
    found = jaxsim.basins.basin_map(
        problem, jaxsim.rules.GD(1e-8), plane, window=(-3, 3, -3, 3), resolution=(4, 4), steps=10**12
    )
    assert found.settings["steps"] == 10**12 and found.time.max() > 2**31
    assert (found.time <= 1e12).all() and found.shares()["unresolved"] < 0.5

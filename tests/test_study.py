"""Studies: what shards depend on, resuming, extending, stopping, damage, reading."""

import hashlib
import io
import itertools
import shutil

import jax
import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
from study_files import NGD, SPHERE, TOML, contents, small

import jaxsim
from jaxsim import plot
from jaxsim import study as studies
from jaxsim.analysis import VERDICTS
from jaxsim.study import audit, cells, engines, running, stopping
from jaxsim.study.engines import Outcome, Task
from jaxsim.study.shards import Shard, Workshop


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that ran through."""
    folder = tmp_path_factory.mktemp("study") / "finished"
    studies.run(small(), folder)
    return folder


class Fake(engines.Here):
    """Shards without simulation: lane i of a cell is global with the cell's own probability."""

    made: list[Task]
    order = staticmethod(lambda tasks: tasks)

    def __init__(self, study, files):
        self.study, self.tasks, self.made = study, [], []

    def room(self):
        return 7 - len(self.tasks)

    def submit(self, task):
        self.tasks.append(task)

    def outcomes(self, wait):
        ready, self.tasks = self.order(self.tasks), []
        return [Outcome(task, self.shard(task)) for task in ready]

    def shard(self, task):
        self.made.append(task)
        rng = np.random.default_rng([task.cell, task.shard])
        count = int(rng.binomial(self.study.shard, (0.5, 0.9, 0.99, 1.0)[task.cell % 4]))
        return Shard(b"x" * count, "", (count, self.study.shard - count, 0, 0, 0, 0))

    def close(self):
        pass


def test_a_file_and_python_build_the_same_study(tmp_path):
    (tmp_path / "s.toml").write_text(TOML)
    study = studies.load(tmp_path / "s.toml")
    assert study == small() and study.hash == small().hash
    assert [c.label for c in cells.cells(study)][:2] == [
        "unit-sphere | sphere radius=0.1 | ngd eta=0.1",
        "unit-sphere | sphere radius=0.1 | ngd eta=0.2",
    ]
    assert [cells.cell_at(study, k) for k in range(4)] == list(cells.cells(study))


def test_the_hash_ignores_what_leaves_shards_alone():
    same = [small(name="other"), small(stop={"lanes": 80}), small(stop={"half_width": 0.1})]
    assert {s.hash for s in same} == {small().hash}
    changed = [
        small(seed=4), small(steps=61), small(shard=30), small(dtype="float64"), small(record=[5]),
        small(limits="saturated"), small(saturation=0.1), small(rule=[{"name": "ngd", "eta": 0.1}]),
        small(problem=[SPHERE | {"seeds": 1}]), small(init=[{"law": "zero"}]), small(loss="linear"),
    ]  # fmt: skip
    assert len({s.hash for s in changed} | {small().hash}) == len(changed) + 1


def test_shards_are_the_lanes_of_one_long_run():
    """Python users can ask `simulate` for the very lanes that a shard holds."""
    study = small(problem=[SPHERE | {"seeds": 5}])
    table = pq.read_table(io.BytesIO(Workshop(study, {}).shard(3, 2).content)).to_pandas()
    with jax.enable_x64(False):
        run = jaxsim.simulate(
            jaxsim.data.unit_sphere(jax.random.key(5), 3, 4, 5), jaxsim.rules.NGD(0.2), jaxsim.init.Sphere(8.0),
            key=cells.key_of(study, cells.cell_at(study, 3)), lanes=20, first=40, steps=60, record=[],
        )  # fmt: skip
    assert table["lane"].tolist() == list(range(40, 60)) and set(table["cell"]) == {3}
    assert table["verdict"].tolist() == run.verdict.tolist()
    assert np.stack(table["selection"]).tolist() == run.selection.tolist()
    for name in ("norm", "log10_gap", "log10_grad_norm", "log10_attention_gap"):
        np.testing.assert_array_equal(table[name], getattr(run, name)[:, -1].astype(np.float32))


@pytest.mark.promise
@pytest.mark.parametrize("limits", ["all", "saturated"])
def test_a_shard_does_not_depend_on_what_was_made_before(limits):
    """Lanes that are still open must not profit from max-margin problems that other shards have solved."""
    study = small(rule=[NGD, {"name": "polyak"}], limits=limits, steps=30)
    warm = Workshop(study, {})
    for cell, shard in itertools.product(range(6), range(1, 5)):
        warm.shard(cell, shard)
    counts = []
    for cell, shard in itertools.product(range(6), (0, 7)):
        made = warm.shard(cell, shard)
        assert made == Workshop(study, {}).shard(cell, shard)
        counts.append(made.counts)
    found = dict(zip(VERDICTS, np.sum(counts, axis=0), strict=True))
    assert 0 < found["unresolved"] < 240


def test_starts_are_the_same_under_every_rule_and_differ_between_laws():
    study = small(problem=[SPHERE, SPHERE | {"d": 6}])
    data = [tuple(jax.random.key_data(cells.key_of(study, cell)).tolist()) for cell in cells.cells(study)]
    assert len(set(data)) == 4 and all(data[k] == data[k + 1] for k in range(0, 8, 2))
    alone = small(init=[{"law": "sphere", "radius": 8.0}])
    assert data[2] == tuple(jax.random.key_data(cells.key_of(alone, cells.cell_at(alone, 0))).tolist())


def test_a_finished_study_has_nothing_left_to_do(finished):
    before = contents(finished)
    found = studies.run(small(), finished)
    assert found.new_shards == 0 and contents(finished) == before
    assert len(before[0]) == 12 and not list(finished.rglob("*.part"))


def test_raising_the_budget_adds_shards_and_changes_none(finished, tmp_path):
    studies.run(small(stop={"lanes": 20}), tmp_path / "s")
    assert studies.run(small(stop={"lanes": 60}), tmp_path / "s").new_shards == 8
    assert contents(tmp_path / "s") == contents(finished)


def test_a_changed_study_is_refused_with_the_difference(finished):
    before = contents(finished)
    with pytest.raises(ValueError, match="holds another study") as error:
        studies.run(small(steps=70, init=[{"law": "sphere", "radius": [0.1, 9.0]}]), finished)
    assert "steps: 60 there, 70 here" in str(error.value)
    assert "init[0].radius: [0.1, 8.0] there, [0.1, 9.0] here" in str(error.value)
    assert contents(finished) == before


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(ValueError, match="expected a new folder or that of a study; .* holds 'precious'"):
        studies.run(small(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_interrupted_anywhere_it_goes_on_to_the_same_tables(finished, tmp_path):
    """Stopped by an exception after every few shards; the hard way, by SIGKILL, is in test_study_crash."""
    for _ in itertools.count():
        budget = iter(range(3))

        def stop(state, budget=budget):
            if state.last is not None and next(budget, None) is None:
                raise KeyboardInterrupt

        try:
            studies.run(small(), tmp_path / "s", progress=stop)
            break
        except KeyboardInterrupt:
            pass
    assert contents(tmp_path / "s") == contents(finished)


ADAPTIVE = dict(stop={"half_width": 0.06, "max_lanes": 2000}, problem=[SPHERE | {"seeds": [0, 1]}])


def test_adaptive_studies_make_the_same_shards_in_any_order(tmp_path):
    tables = []
    orders = (lambda t: t, lambda t: t[::-1], lambda t: sorted(t, key=lambda x: (x.shard * 7 + x.cell * 5) % 11))
    for k, order in enumerate(orders):
        engine = type("Shuffled", (Fake,), {"order": staticmethod(order)})
        studies.run(small(**ADAPTIVE), tmp_path / f"{k}", engine=engine)
        tables.append([r[:2] + r[6:] for r in contents(tmp_path / f"{k}")[1]])
    assert tables[0] == tables[1] == tables[2]
    reader = jaxsim.open_study(tmp_path / "0")
    assert reader.done.all()
    lanes = reader.counts.sum(1)
    assert lanes[0] > 3 * lanes[2] > 0  # p = 0.5 needs more than p = 0.99
    value, low, high = reader.watched()
    assert np.all(((high - low) / 2 <= 0.06) | (lanes == 2000))


def test_a_round_is_not_judged_before_it_is_complete():
    study = small(**ADAPTIVE)
    half = (10, 10, 0, 0, 0, 0)
    assert stopping.targets(study, [{}, {0: half}, {0: half, 1: half}, {1: half}]).tolist() == [1, 2, 4, 1]
    whole = {k: (20, 0, 0, 0, 0, 0) for k in range(3)}
    narrow = stopping.targets(study, [{k: whole[k] for k in range(n)} for n in (1, 2, 3)])
    assert narrow.tolist() == [2, 3, 3]
    many = {k: half for k in range(100)}
    assert stopping.targets(study, [many])[0] <= study.most_shards == 100


def test_cells_with_wide_intervals_come_first(tmp_path):
    made = []

    class Watched(Fake):
        def room(self):
            return 1 - len(self.tasks)

        def shard(self, task):
            made.append(task)
            return super().shard(task)

    studies.run(small(stop={"half_width": 0.05, "max_lanes": 3000}), tmp_path / "s", engine=Watched)
    firsts = [task for task in made if task.shard == 0]
    assert made[:4] == firsts  # every cell once, before any cell twice
    assert made[4].cell == 0  # p = 0.5 has the widest interval


def test_one_process_of_several_makes_its_own_slice(tmp_path):
    for name, changes in (("fixed", {}), ("adaptive", ADAPTIVE)):
        study = small(**changes)
        studies.run(study, tmp_path / name, engine=Fake)
        counts = [
            studies.run(study, tmp_path / f"{name}-2", engine=Fake, process=p, processes=2).new_shards for p in (0, 1)
        ]
        assert min(counts) > 0
        mine = [r[:3] + r[6:] for r in contents(tmp_path / f"{name}-2")[1]]
        assert mine == [r[:3] + r[6:] for r in contents(tmp_path / name)[1]]
        assert studies.run(study, tmp_path / f"{name}-2", engine=Fake).new_shards == 0


def test_a_cell_that_fails_is_told_and_the_others_go_on(tmp_path):
    class Failing(Fake):
        def outcomes(self, wait):
            return [Outcome(o.task, None, "no luck") if o.task.cell == 1 else o for o in super().outcomes(wait)]

    found = studies.run(small(), tmp_path / "s", engine=Failing)
    assert found.failed == {"cell 1 (unit-sphere | sphere radius=0.1 | ngd eta=0.2)": "no luck"}
    reader = jaxsim.open_study(tmp_path / "s")
    assert reader.counts.sum(1).tolist() == [60, 0, 60, 60] and reader.failed == {1: "no luck"}
    assert np.isnan(reader.fractions()["fraction"].values[0, 0, 1]).all()
    assert studies.run(small(), tmp_path / "s", engine=Fake).new_shards == 3
    assert not jaxsim.open_study(tmp_path / "s").failed


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove"])
def test_damage_is_named_and_repaired_on_request(finished, tmp_path, harm):
    place = tmp_path / "s"
    studies.run(small(), place)
    name = "shards/0000/000001-000002.parquet"
    content = bytearray((place / name).read_bytes())
    if harm == "remove":
        (place / name).unlink()
    else:
        content[len(content) // 2] ^= 4
        (place / name).write_bytes(content[: -10 if harm == "truncate" else None])
    assert list(audit.verify(place, sample=0).damaged) == [name]
    said = []
    found = studies.run(small(), place, report=said.append)
    assert found.damaged == [name] and found.new_shards == 0 and name in said[0]
    reader = jaxsim.open_study(place)
    assert list(reader.damaged) == [name]
    assert reader.counts.sum() == 240  # the manifest knows what the shard came to
    with pytest.raises(ValueError, match=f"1 of 12 shards are damaged: {name}"):
        reader.table()
    assert reader.table(damaged="leave out").count_rows() == 220 and reader.table(0).count_rows() == 60
    repaired = studies.run(small(), place, repair=True)
    assert repaired.repaired == [name] and not repaired.changed
    assert contents(place) == contents(finished)
    assert audit.verify(place) == audit.AuditResult(12, 3, {}, [])


def test_a_shard_with_flipped_bits_is_named_by_who_reads_it(finished, tmp_path):
    place, name = tmp_path / "s", "shards/0000/000001-000002.parquet"
    shutil.copytree(finished, place)
    content = (place / name).read_bytes()
    for bit in (8 * len(content) // 3, 4 * len(content), 8 * len(content) - 40):  # data, data, Parquet's own footer
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (place / name).write_bytes(flipped)
        with pytest.raises(ValueError, match=f"1 of 12 shards are damaged: {name}"):
            audit.export(place, tmp_path / "t.parquet")
        with pytest.raises(ValueError, match=f"1 of 3 shards are damaged: {name}"):
            jaxsim.open_study(place).lanes(1)
        assert not list(tmp_path.glob("t.parquet*"))
        assert audit.export(place, tmp_path / "rest.parquet", leave_out=True) == 220
        assert set(pandas.read_parquet(tmp_path / "rest.parquet", columns=["cell"])["cell"]) == {0, 1, 2, 3}
        (tmp_path / "rest.parquet").unlink()
        assert jaxsim.open_study(place).lanes(1, damaged="leave out").sizes["lane"] == 40


def test_verify_tells_shards_that_come_out_differently(finished, tmp_path):
    class Other(Fake):
        def shard(self, task):
            content = b"not what this cell gives"
            return Shard(content, hashlib.sha256(content).hexdigest(), (20, 0, 0, 0, 0, 0))

    studies.run(small(), tmp_path / "s", engine=Other)
    found = audit.verify(tmp_path / "s", sample=2)
    assert not found.damaged and found.repeated == len(found.different) == 2
    assert audit.verify(finished, sample=12) == audit.AuditResult(12, 12, {}, [])


def test_views_agree_with_the_table(finished):
    reader = jaxsim.open_study(finished)
    table = reader.table().to_table().to_pandas()
    found = reader.fractions()
    assert found.attrs["interval"] == "wilson" and found["init_radius"].values.tolist() == [0.1, 8.0]
    for cell, group in table.groupby("cell"):
        rest, rule = divmod(int(cell), 2)
        view = found.isel(problem=0, init=rest, rule=rule)
        counts = group["verdict"].value_counts()
        assert view["count"].values.tolist() == [counts.get(name, 0) for name in VERDICTS]
        assert group["lane"].tolist() == list(range(60))
        low, high = jaxsim.analysis.wilson_bounds(view["count"].values, 60)
        np.testing.assert_array_equal(view["low"], low)
        lanes = reader.lanes(int(cell))
        assert lanes["verdict"].values.tolist() == group["verdict"].tolist()
        np.testing.assert_array_equal(lanes["cell_high"], high)
        assert lanes["selection"].shape == (60, 3)
    assert reader.fractions("anytime").attrs["interval"] == "anytime"
    frame = reader.cells()
    assert frame["init.radius"].tolist() == [0.1, 0.1, 8.0, 8.0] and frame["lanes"].tolist() == [60] * 4
    assert repr(reader) == "Study('study', 4 of 4 cells done, 240 lanes)"


def test_recorded_steps_are_views_by_lane_and_step(tmp_path):
    study = small(record=[10, 30], stop={"lanes": 20}, rule=[{"name": "polyak"}, {"name": "ngd", "eta": 0.1}])
    studies.run(study, tmp_path / "s")
    reader = jaxsim.open_study(tmp_path / "s")
    lanes = reader.lanes(0)
    assert lanes["norm_recorded"].shape == (20, 3) and lanes["step"].values.tolist() == [10, 30, 60]
    np.testing.assert_array_equal(lanes["norm_recorded"].values[:, -1], lanes["norm"].values)
    assert "capped_steps" in lanes and "capped_steps" not in reader.lanes(1)
    assert reader.table().to_table()["capped_steps"].null_count == 40


def test_export_to_every_format(finished, tmp_path):
    assert audit.export(finished, tmp_path / "all.parquet") == 240
    table = pandas.read_parquet(tmp_path / "all.parquet")
    assert set(table["init.radius"]) == {0.1, 8.0} and len(table) == 240
    assert table.loc[table["cell"] == 3, "rule.eta"].unique().tolist() == [0.2]
    import xarray

    for name, engine in (("all.nc", "h5netcdf"), ("all.zarr", "zarr")):
        assert audit.export(finished, tmp_path / name) == 4
        back = xarray.open_dataset(tmp_path / name, engine=engine)
        np.testing.assert_array_equal(back["count"], jaxsim.open_study(finished).fractions()["count"])
    with pytest.raises(ValueError, match="expected a new file"):
        audit.export(finished, tmp_path / "all.nc")
    with pytest.raises(ValueError, match="ends in .parquet, .nc or .zarr"):
        audit.export(finished, tmp_path / "all.csv")


def test_problem_files_travel_with_the_study(tmp_path):
    jaxsim.data.save(jaxsim.data.unit_sphere(jax.random.key(0), 3, 4, 5), tmp_path / "mine.npz")
    text = TOML.replace('"unit-sphere"\nn = 3\nT = 4\nd = 5', '"file"\npath = "mine.npz"')
    (tmp_path / "s.toml").write_text(text)
    study = studies.load(tmp_path / "s.toml")
    studies.run(study, tmp_path / "out")
    (tmp_path / "mine.npz").unlink()
    assert audit.verify(tmp_path / "out") == audit.AuditResult(12, 3, {}, [])
    jaxsim.data.save(jaxsim.data.unit_sphere(jax.random.key(1), 3, 4, 5), tmp_path / "mine.npz")
    with pytest.raises(ValueError, match=r"problem\[0\].fingerprint"):
        studies.run(studies.load(tmp_path / "s.toml"), tmp_path / "out")


def test_reading_what_is_no_study_is_explained(tmp_path):
    with pytest.raises(ValueError, match="holds no manifest"):
        jaxsim.open_study(tmp_path)
    (tmp_path / "manifest-0000.sqlite").write_text("not a database at all, but some text " * 40)
    with pytest.raises(ValueError, match="is not the manifest of a study"):
        jaxsim.open_study(tmp_path)
    with pytest.raises(ValueError, match="is not the manifest of a study"):
        studies.run(small(), tmp_path)


def test_figure(finished):
    figure = plot.fractions(jaxsim.open_study(finished).fractions())
    assert figure.axes[0].get_xscale() == "log" and len(figure.axes[0].lines) == 2
    with pytest.raises(ValueError, match="against: expected one of .*radius, eta; got 'scale'"):
        plot.fractions(jaxsim.open_study(finished).fractions(), "scale")


def test_figure_against_any_number_and_against_two(finished):
    found = jaxsim.open_study(finished).fractions()
    part = found.sel(verdict="global").isel(problem=0)
    figure = plot.fractions(found, "eta")
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in panels] == [str(label) for label in found["init"].values]
    for k, ax in enumerate(panels):
        (line,) = ax.lines
        assert line.get_xdata().tolist() == found["rule_eta"].values.tolist()
        np.testing.assert_array_equal(line.get_ydata(), part["fraction"].values[k])
    heat = plot.fractions(found, "radius,eta")
    (image,) = heat.axes[0].images
    np.testing.assert_array_equal(image.get_array(), part["fraction"].values.T)
    assert (heat.axes[0].get_xlabel(), heat.axes[0].get_ylabel()) == ("radius", "eta")
    for against, said in (
        ("radius,radius", "two numbers that differ"),
        ("n,radius,eta", "expected one or two numbers"),
    ):
        with pytest.raises(ValueError, match=said):
            plot.fractions(found, against)


def test_the_list_of_laws_reaches_every_rule_of_the_registry():
    assert set(studies.spec.RULE_TABLES) == set(jaxsim.rules.RULES) | set(jaxsim.rules.MATRIX_RULES)
    study = small(rule=[{"name": "mirror", "eta": 0.1, "p": [1.5, 3.0]}, {"name": "spectral", "eta": 0.1}, NGD])
    assert [r.label for r in study.rules] == ["mirror p=1.5", "mirror p=3", "spectral", "ngd eta=0.1", "ngd eta=0.2"]
    assert running.file_of(Task(300, 2)) == "shards/0001/000300-000002.parquet"

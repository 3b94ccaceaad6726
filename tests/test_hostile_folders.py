"""Folders of runs and saved results whose content is wrong: one line that names the file, nothing written."""

import copy
import json
import shutil

import hostile
import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

import jaxsim
from jaxsim import basins
from jaxsim.report import runs

JUNK = [None, True, -1, 10**30, 1.5, "x", "", [], [1], ["x"], {}, {"x": 1}, [[]], "NaN"]
SETTLE = hypothesis.settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder that `jaxsim run` wrote."""
    place = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jax.config.update", lambda *_: None)
        patch.setattr("sys.argv", "jaxsim run --data unit-sphere --n 3 -T 4 -d 5 --lanes 4 --steps 9 --rule ngd=1 "
                      f"--full --out {place / 'run'}".split())  # fmt: skip
        from jaxsim import cli

        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert not stop.value.code
    return place / "run"


@pytest.fixture
def folder(sound, tmp_path):
    """A copy of it, to be spoilt."""
    shutil.copytree(sound, tmp_path / "run")
    return tmp_path / "run"


def spoilt(folder, name, change):
    """The folder with a JSON file that `change` has changed."""
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(change(content)))


TEXTS = ["", "{", "[]", "3", "null", '"x"', "[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, "\x00", "{}"]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("name", ["settings", "summary", "environment"])
def test_a_report_names_the_json_file_that_is_wrong(name, text, folder, capsys):
    (folder / f"{name}.json").write_text(text)
    if (name, text) == ("environment", "{}"):  # nothing is known of it, and nothing has to be
        code, out, _ = hostile.called(["report", "run"], folder.parent, capsys)
        assert not code and "report.html" in out
    else:
        hostile.refused(["report", "run"], f"run/{name}.json", folder.parent, capsys)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("name", ["settings", "summary"])
def test_a_replay_names_the_json_file_that_is_wrong(name, text, folder, capsys):
    (folder / f"{name}.json").write_text(text)
    words = "does not say how" if (name, text) == ("settings", "{}") else f"run/{name}.json"
    hostile.refused(["replay", "run", "--lane", "0"], words, folder.parent, capsys)


@pytest.mark.parametrize("command", [["report", "run"], ["replay", "run", "--lane", "0"]])
def test_files_that_are_no_text_or_no_files(command, folder, capsys):
    for name in ("settings.json", "summary.json"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(b"\xff\xfe\x00")
        hostile.refused(command, f"run/{name}", folder.parent, capsys)
        (folder / name).unlink()
        (folder / name).mkdir()
        hostile.refused(command, f"run/{name}", folder.parent, capsys)
        (folder / name).rmdir()
        (folder / name).write_bytes(kept)


def test_runs_of_a_summary_that_lack_anything(folder, capsys):
    whole = json.loads((folder / "summary.json").read_text())
    needed = {"lanes", "steps", "verdicts", "verdicts_by_direction", "median_direction_error", "rate", "rule",
              "median_log10_attention_gap", "median_log10_grad_norm", "median_norm", "distinct_selections"}  # fmt: skip
    for field in needed:
        content = copy.deepcopy(whole)
        del content["unit-sphere"][0][field]
        (folder / "summary.json").write_text(json.dumps(content))
        hostile.refused(["report", "run"], f"run/summary.json': unit-sphere[0].{field}: ", folder.parent, capsys)
    for content in ({"a": []}, {"a": whole["unit-sphere"], "b": []}, {"other": whole["unit-sphere"]}):
        (folder / "summary.json").write_text(json.dumps(content))
        hostile.refused(["report", "run"], "run/", folder.parent, capsys)


SETTINGS = ["lanes", "dtype", "scale", "train", "width", "nuclear", "batch", "seed", "max_step", "steps", "loss"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field, value)
        for field in SETTINGS
        for value in ({"x": 1}, ["x"], "strange", -1, 10**30)
        if not (field in ("scale", "max_step", "steps") and value == 10**30)  # that can be
    ],
)
def test_a_replay_refuses_settings_that_cannot_be(field, value, folder, capsys):
    spoilt(folder, "settings.json", lambda content: content | {field: value})
    hostile.refused(["replay", "run", "--lane", "3"], "run/settings.json': ", folder.parent, capsys)


@pytest.mark.parametrize("field", SETTINGS)
def test_a_replay_refuses_settings_that_are_missing(field, folder, capsys):
    spoilt(folder, "settings.json", lambda content: {k: v for k, v in content.items() if k != field})
    hostile.refused(["replay", "run", "--lane", "3"], f"run/settings.json': {field}: ", folder.parent, capsys)


@pytest.mark.parametrize(
    "given",
    [None, [], "x", {}, {"rule": []}, {"rule": "ngd=1", "init": "gaussian"}, {"rule": [1], "init": "gaussian"},
     {"rule": ["ngd"], "init": "gaussian"}, {"rule": ["ngd=1"], "init": 3}, {"rule": ["ngd=1"], "init": "nowhere"}],
    ids=repr,
)  # fmt: skip
def test_a_replay_refuses_what_was_not_given(given, folder, capsys):
    spoilt(folder, "settings.json", lambda content: content | {"given": given})
    hostile.refused(["replay", "run", "--lane", "0"], "run/settings.json", folder.parent, capsys)


@pytest.mark.parametrize("kind", ["zlib", "shape20", "no-members", "complex-tokens", "nan", "empty"])
def test_a_replay_names_the_problem_file_that_is_wrong(kind, folder, capsys):
    (folder / "problem-unit-sphere.npz").write_bytes(hostile.FILES[kind][0])
    hostile.refused(["replay", "run", "--lane", "0"], "run/problem-unit-sphere.npz'", folder.parent, capsys)


@pytest.mark.parametrize("kind", [*hostile.STARTS, None])
def test_a_replay_names_the_file_of_starts_that_is_wrong(kind, folder, capsys):
    spoilt(folder, "settings.json", lambda c: c | {"given": {"rule": ["ngd=1"], "init": "w0.npy"}, "scale": None})
    if kind is not None:
        (folder / "starts.npy").write_bytes(hostile.STARTS[kind][0])
    hostile.refused(["replay", "run", "--lane", "3"], "run/starts.npy'", folder.parent, capsys)


TABLES = {
    "curves": ["problem", "rule", "step", "quantity", "lanes", "q05", "q50", "q95"],
    "selections": ["problem", "rule", "selection", "lanes", "limit_norm", "limit_status", "locally_optimal"],
}
BYTES = {"empty": b"", "text": b"x" * 50, "magic": b"PAR1" + b"\0" * 40 + b"PAR1"}


@pytest.mark.parametrize("table", [*TABLES])
def test_a_report_names_the_table_that_is_wrong(table, folder, capsys):
    path = folder / f"{table}.parquet"
    frame = pd.read_parquet(path)
    for column in TABLES[table]:
        frame.drop(columns=[column]).to_parquet(path)
        hostile.refused(["report", "run"], f"run/{table}.parquet': {column}: missing", folder.parent, capsys)
        for values in (["x"] * len(frame), [{"a": 1}] * len(frame), [b"\xff"] * len(frame), [None] * len(frame)):
            if values[0] == "x" and isinstance(frame[column].iloc[0], str):
                continue
            frame.assign(**{column: values}).to_parquet(path)
            hostile.refused(["report", "run"], f"run/{table}.parquet': {column}: ", folder.parent, capsys)
    for name in ("problem", "rule"):
        frame.assign(**{name: "foreign"}).to_parquet(path)
        hostile.refused(["report", "run"], f"run/{table}.parquet': {name}: ", folder.parent, capsys)
    for content in BYTES.values():
        path.write_bytes(content)
        hostile.refused(["report", "run"], f"run/{table}.parquet", folder.parent, capsys)
    path.unlink()
    hostile.refused(["report", "run"], f"run/{table}.parquet", folder.parent, capsys)


def test_a_replay_names_the_table_that_is_wrong(folder, capsys):
    path = folder / "lanes.parquet"
    frame = pd.read_parquet(path)
    wrong = [frame.drop(columns=[column]) for column in ("problem", "rule", "lane", "verdict", "norm")]
    for column in ("problem", "rule", "lane", "norm"):
        wrong += [frame.assign(**{column: [value] * 4}) for value in ({"a": 1}, b"\xff", [1])]
    wrong += [frame.assign(norm="x"), frame.assign(lane="x"), frame.assign(verdict="lost"), frame.iloc[:0]]
    for part in wrong:
        part.to_parquet(path)
        hostile.refused(["replay", "run", "--lane", "0"], "lanes.parquet", folder.parent, capsys)
    for content in BYTES.values():
        path.write_bytes(content)
        hostile.refused(["replay", "run", "--lane", "0"], "lanes.parquet", folder.parent, capsys)


@pytest.mark.parametrize(
    ("command", "words"),
    [("report absent", "report: expected a folder that"), ("report file", "report: expected a folder that"),
     ("report full", "report: expected a folder that"), ("replay absent --lane 0", "absent/settings.json"),
     ("replay file --lane 0", "file/settings.json"), ("replay full --lane 0", "full/settings.json"),
     (f"report {'a' * 300}", "report: expected a folder that"),
     (f"replay {'a' * 300} --lane 0", "settings.json"),
     (f"study status {'a' * 300}", "study: expected the folder of a study"),
     ("study status absent", "study: expected the folder of a study"),
     ("study verify file", "study: expected the folder of a study"),
     ("study verify full --cores 0", "cores: expected at least 1"),
     ("study verify full --cores 100000", "cores: expected at most 1024"),
     ("study plot full", "study: expected the folder of a study"),
     ("study map full", "study: expected the folder of a study"),
     ("study export full --to x.parquet", "study: expected the folder of a study"),
     ("study export full", "--to")],
)  # fmt: skip
def test_folders_of_something_else(command, words, tmp_path, capsys):
    hostile.fill(tmp_path)
    hostile.refused(command.split(), words, tmp_path, capsys)


def test_a_replay_writes_nothing_where_it_cannot(folder, capsys):
    hostile.fill(folder.parent)
    for out in ("full", "file", "file/inside"):
        hostile.refused(["replay", "run", "--lane", "0", "--out", out], "out: ", folder.parent, capsys)


@st.composite
def changed(draw, content):
    """JSON with one to three places, however deep, dropped or replaced by something else."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        at = content
        while True:
            places = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not places:
                break
            place = draw(st.sampled_from(places))
            if isinstance(at[place], dict | list) and at[place] and draw(st.booleans()):
                at = at[place]
                continue
            if draw(st.booleans()):
                del at[place]
            else:
                at[place] = copy.deepcopy(draw(st.sampled_from(JUNK)))
            break
    return content


def reported(name, sound, place, data, report):
    """A folder with a spoilt file either makes a report or says in a line what is wrong with it."""
    folder = place.mktemp("spoilt")
    for path in sound.iterdir():
        if path.suffix in (".json", ".parquet"):
            (folder / path.name).write_bytes(path.read_bytes())
    spoilt = data.draw(changed(json.loads((sound / f"{name}.json").read_text())))
    (folder / f"{name}.json").write_text(json.dumps(spoilt))
    try:
        report(folder)
    except ValueError as error:
        assert str(folder) in str(error) and "\n" not in str(error)


@SETTLE
@hypothesis.given(st.data())
@pytest.mark.parametrize("name", ["settings", "summary", "environment"])
def test_sixty_spoilt_folders_are_read_or_named(name, sound, tmp_path_factory, data):
    reported(name, sound, tmp_path_factory, data, runs.content)


@pytest.mark.slow
@SETTLE
@hypothesis.given(st.data())
@pytest.mark.parametrize("name", ["settings", "summary", "environment"])
def test_reports_of_sixty_spoilt_folders(name, sound, tmp_path_factory, data):
    reported(name, sound, tmp_path_factory, data, jaxsim.report.write)


@SETTLE
@hypothesis.given(st.data())
def test_loading_sixty_runs_with_other_metadata(sound, tmp_path_factory, data):
    """What is loaded is whole: it can be shown, summarised and lifted."""
    path = next(sound.glob("run-*.npz"))
    with np.load(path) as archive:
        arrays = dict(archive)
    meta = data.draw(changed(json.loads(str(arrays["meta"]))))
    there = tmp_path_factory.mktemp("meta") / "run.npz"
    np.savez(there, **arrays | {"meta": np.array(json.dumps(meta))})
    try:
        run = jaxsim.Run.load(there)
    except ValueError as error:
        assert str(there) in str(error) and "\n" not in str(error)
    else:
        assert repr(run) and run.summary()["lanes"] == run.lanes and run.W(0).shape == run.problem.W_shape


@SETTLE
@hypothesis.given(st.data())
def test_loading_sixty_runs_with_other_arrays(sound, tmp_path_factory, data):
    path = next(sound.glob("run-*.npz"))
    with np.load(path) as archive:
        arrays = dict(archive)
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from(sorted(arrays)))
        value = arrays.pop(name)
        others = [None, value.astype(str), value * 1j if value.dtype.kind in "bif" else None, value[..., None],
                  value[:0] if value.ndim else None, np.array(value)[..., :1] if value.ndim else None,
                  value + 7 if value.dtype.kind == "i" else None]  # fmt: skip
        other = others[data.draw(st.integers(0, len(others) - 1))]
        if other is not None:
            arrays[name] = other
    there = tmp_path_factory.mktemp("arrays") / "run.npz"
    np.savez(there, **arrays)
    try:
        run = jaxsim.Run.load(there)
    except ValueError as error:
        assert str(there) in str(error) and "\n" not in str(error)
    else:
        assert repr(run) and run.summary()["lanes"] == run.lanes and run.W(0).shape == run.problem.W_shape


@pytest.mark.parametrize("kind", ["zlib", "lzma", "encrypted", "method", "shape12", "shape20", "deep", "no-members"])
def test_saved_results_of_every_wrong_kind(kind, tmp_path):
    path = tmp_path / "result.npz"
    path.write_bytes(hostile.FILES["header-deep" if kind == "deep" else kind][0])
    for load in (jaxsim.Run.load, basins.BasinMap.load, basins.Shells.load, basins.Edges.load):
        with pytest.raises(ValueError, match="path: expected a saved .*result.npz") as error:
            load(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("meta", ["", "3", "[]", "{}", '{"format": "x", "kind": "run"}', '{"format": 1}', "[" * 9999])
def test_saved_results_with_foreign_metadata(meta, tmp_path):
    path = tmp_path / "result.npz"
    np.savez(path, meta=np.array(meta), x=np.ones(3))
    for load in (jaxsim.Run.load, basins.BasinMap.load):
        with pytest.raises(ValueError, match="path: .*result.npz"):
            load(path)

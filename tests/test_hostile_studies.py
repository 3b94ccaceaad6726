"""Study files that ask for what cannot be: a message with key and line, and nothing is written."""

import shlex

import hostile
import pytest
from study_files import TOML, small

import jaxsim.study
from jaxsim.study import manifest

DEEP = ".".join(["a"] * 3000)
CASES = [
    ("d = 5", "d = 1000000000", "line 10: problem[0].d: "),
    ("d = 5", "d = 1000000000000000000000000", "line 10: problem[0].d: "),
    ("d = 5", f"d = {'9' * 400}", "line 10: problem[0].d: "),
    ("d = 5", f"d = {'9' * 5000}", "is not TOML"),
    ("n = 3", "n = 1000000000000", "line 8: problem[0].n: "),
    ("T = 4", "T = [4, 1000000000000]", "line 9: problem[0].T: "),
    ("d = 5", "d = 5.0", "line 10: problem[0].d[0]: expected a whole number; got 5.0"),
    ("d = 5", "d = true", "line 10: problem[0].d[0]: expected a whole number; got True"),
    ("d = 5", "d = [[5]]", "line 10: problem[0].d[0]: expected a whole number; got [5]"),
    ("d = 5", "d = {x = 5}", "line 10: problem[0].d[0]: expected a whole number"),
    ("d = 5", "d = 1979-05-27", "line 10: problem[0].d[0]: expected a whole number"),
    ("lanes = 60", "lanes = 4294967290", "stop.lanes: "),
    ("lanes = 60", "lanes = 4294967280", "line 18: stop.lanes: "),
    ("lanes = 60", "lanes = 42949672960", "line 18: stop.lanes: expected at most 4294967296"),
    ("lanes = 60", "lanes = 0", "line 18: stop.lanes: expected at least 1"),
    ("lanes = 60", "lanes = '60'", "line 18: stop.lanes: expected a whole number"),
    ("lanes = 60", "half_width = 0", "line 18: stop.half_width: expected greater than 0"),
    ("lanes = 60", "half_width = 0.1\nlevel = 1.0", "stop.level: expected less than 1"),
    ("lanes = 60", "half_width = 0.1\nmax_lanes = 10000000000", "stop.max_lanes: expected at most"),
    ("seed = 3", "seed = 4294967296", "line 2: seed: expected less than 4294967296"),
    ("seed = 3", f"seed = {'9' * 300}", "line 2: seed: expected less than 4294967296"),
    ("seed = 3", "seed = 3.5", "line 2: seed: expected a whole number; got 3.5"),
    ("steps = 60", 'steps = 2147483648\nstepping = "every"', "line 3: steps: expected at most 2147483647, because"),
    ("steps = 60", "steps = -60", "line 3: steps: expected at least 1"),
    ("shard = 20", "shard = 0", "line 4: shard: expected at least 1"),
    ("shard = 20", "shard = 10000000000", "line 4: shard: expected at most 1048576"),
    ("shard = 20", "shard = 20\nrecord = [-1]", "record[0]: expected at least 0; got -1"),
    ("shard = 20", "shard = 20\nrecord = 5", "record: expected"),
    ("shard = 20", "shard = 20\nsaturation = 1.0", "saturation: expected less than 1"),
    ("shard = 20", "shard = 20\nalignment = inf", "alignment: expected"),
    ("shard = 20", "shard = 20\nloss = 'negative-log'", "loss: negative-log needs token scores of at least 0"),
    ("shard = 20", "shard = 20\nloss = 'hinge'", "loss: expected logistic, exponential, linear or negative-log"),
    ("shard = 20", "shard = 20\nlimits = 3", "limits: expected all or saturated; got 3"),
    ("shard = 20", "shard = 20\nname = 3", "name: expected text in quotes; got 3"),
    ("radius = [0.1, 8]", "radius = 0", "line 13: init[0].radius: expected a number above 0"),
    ("radius = [0.1, 8]", "radius = 1e999", "line 13: init[0].radius[0]: expected a finite number"),
    ("radius = [0.1, 8]", f"radius = {'9' * 400}", "line 13: init[0].radius[0]: expected"),
    ("radius = [0.1, 8]", "radius = 'x'", "line 13: init[0].radius[0]: expected a number; got 'x'"),
    ('law = "sphere"\nradius = [0.1, 8]', 'law = "random-plane"\nresolution = [100000, 2]',
     "stop.lanes: expected 2000"),
    ('law = "sphere"\nradius = [0.1, 8]', 'law = "random-plane"\nresolution = [6, 9]', "stop.lanes: expected 54"),
    ('law = "sphere"\nradius = [0.1, 8]', 'law = "random-plane"\nresolution = [6]', "init[0].resolution"),
    ('law = "sphere"\nradius = [0.1, 8]',
     'law = "random-plane"\nresolution = [6, 10]\nwindow = [1, 0, 0, 1]', "init[0].window: expected a first < a last"),
    ('law = "sphere"\nradius = [0.1, 8]',
     'law = "random-plane"\nresolution = [6, 10]\nwindow = [-1e308, 1e308, 0, 1]', "init[0].window: "),
    ('law = "sphere"\nradius = [0.1, 8]',
     'law = "limits-plane"\nresolution = [6, 10]\nselection = [9, 9, 9]', "init[0].selection: "),
    ("eta = [0.1, 0.2]", "eta = -1", "line 16: rule[0].eta: expected a number above 0"),
    ("eta = [0.1, 0.2]", f"eta = {'9' * 400}", "line 16: rule[0].eta[0]: expected"),
    ("eta = [0.1, 0.2]", "eta = {}", "line 16: rule[0].eta[0]: expected a number; got {}"),
    ('name = "ngd"', 'name = 3', "rule[0].name: expected one of gd, ngd"),
    ("seed = 3", f"{DEEP} = 1", "a: expected tables"),
    ("seed = 3", f"[{DEEP}]\nx = 1", "a: expected tables"),
    ("seed = 3", "seed = " + "[" * 3000 + "]" * 3000, "is not TOML"),
    ("seed = 3", "seed = " + "{a=" * 3000 + "1" + "}" * 3000, "is not TOML"),
    ("seed = 3", "seed = " + "[" * 200 + "]" * 200, "line 2: seed: expected tables"),
    ("seed = 3", "seed = 0x", "is not TOML"),
    ("seed = 3", "\x00", "is not TOML"),
]  # fmt: skip
FAMILY = 'family = "unit-sphere"\nn = 3\nT = 4\nd = 5'
PATHS = [("absent.npz", "expected a readable .npz file"), ("folder.npz", "expected a readable .npz file"),
         ("x\\u0000y.npz", "expected a readable .npz file"), ("", "expected a readable .npz file"),
         ("shape20.npz", "480 bytes"), ("bomb.npz", "expected a readable .npz file"), ("method.npz", "compression"),
         ("complex-tokens.npz", "tokens: expected real numbers"), ("decoder-1e308.npz", "decoder: "),
         ("no-members.npz", "lacks tokens")]  # fmt: skip
OPTIONS = [
    ("--cores 0", "cores: expected at least 1; got 0"),
    ("--cores 100000", "cores: expected at most 1024; got 100000"),
    ("--cores x", "--cores: "),
    ("--timeout 0 --workers dask", "timeout: expected a number above 0"),
    ("--timeout nan --workers dask", "timeout: expected a finite number"),
    ("--retries -1 --workers dask", "retries: expected at least 0; got -1"),
    ("--workers there", "workers: expected here, dask or the address of a scheduler"),
    ("--workers ''", "workers: expected here, dask or the address of a scheduler"),
    ("--distributed noport,1,0", "distributed: expected auto or HOST:PORT,PROCESSES,THIS"),
    ("--distributed host:port,1,0", "distributed: expected auto or HOST:PORT,PROCESSES,THIS"),
    ("--distributed host:0,1,0", "distributed: expected"),
    ("--distributed host:70000,1,0", "distributed: expected"),
    ("--distributed :5000,1,0", "distributed: expected"),
    ("--distributed host:5000,0,0", "distributed: expected"),
    ("--distributed host:5000,-2,0", "distributed: expected"),
    ("--distributed host:5000,2,2", "distributed: expected THIS from 0 to 1; got 2"),
    ("--distributed host:5000,2,-1", "distributed: expected THIS from 0 to 1; got -1"),
    ("--distributed host:5000", "distributed: expected auto or HOST:PORT,PROCESSES,THIS"),
    ("--distributed host:5000,2,0,1", "distributed: expected auto or HOST:PORT,PROCESSES,THIS"),
    (f"--distributed host:5000,{'9' * 400},0", "distributed: expected"),
    ("--distributed ''", "distributed: expected auto or HOST:PORT,PROCESSES,THIS"),
    ("--cache file", "cache: cannot make the folder 'file'"),
    ("--out full", "out: expected a new folder or that of a study; 'full' holds 'precious'"),
    ("--out file", "out: cannot make the folder 'file'"),
    ("--out file/inside", "out: cannot make the folder 'file/inside'"),
    ("--repear", "--repear"),
    ("more", "more"),
]
FILES = [("absent.toml", "study: expected a readable TOML file at 'absent.toml'"),
         ("full", "study: expected a readable TOML file at 'full'"), ("good.npz", "it is not UTF-8 text"),
         ("''", "study: expected a readable TOML file"), ("start-text.npy", "'start-text.npy' is not TOML"),
         ("start-empty.npy", "missing")]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("studies")
    hostile.fill(place)
    (place / "good.toml").write_text(TOML)
    return place


@pytest.mark.parametrize(("old", "new", "words"), CASES, ids=lambda value: value[:40])
def test_a_study_that_cannot_be_is_refused_in_one_line(old, new, words, place, capsys):
    assert old in TOML
    (place / "s.toml").write_text(TOML.replace(old, new, 1))
    hostile.refused(["study", "run", "s.toml"], words, place, capsys)


@pytest.mark.parametrize(("path", "words"), PATHS)
def test_a_study_of_a_bad_problem_file(path, words, place, capsys):
    (place / "s.toml").write_text(TOML.replace(FAMILY, f'family = "file"\npath = "{path}"'))
    hostile.refused(["study", "run", "s.toml"], words, place, capsys)
    _, _, said = hostile.called(["study", "run", "s.toml"], place, capsys)
    assert "line 8: problem[0].path: data: " in said


@pytest.mark.parametrize(("options", "words"), OPTIONS)
def test_what_an_option_cannot_be_is_refused_in_one_line(options, words, place, capsys):
    hostile.refused(shlex.split(f"study run good.toml {options}"), words, place, capsys)


@pytest.mark.parametrize(("file", "words"), FILES)
def test_files_that_are_no_studies(file, words, place, capsys):
    code, out, err = hostile.called(shlex.split(f"study run {file}"), place, capsys)
    assert code == 2 and not out and err.startswith("error ") and words in err and "Traceback" not in err


def test_grids_too_large_to_list_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr("jaxsim._machine.memory", lambda: hostile.LITTLE)
    content = dict(
        steps=10, shard=20, problem=[{"family": "unit-sphere"}], init=[{"law": "zero"}], stop={"lanes": 20},
        rule=[{"name": "adam", "eta": list(range(1, 2000)), "beta1": [k / 3000 for k in range(2000)],
               "beta2": [k / 3000 for k in range(2000)]}],
    )  # fmt: skip
    with pytest.raises(ValueError, match="^rule: .* memory"):
        jaxsim.study.build(**content)
    many = [{"family": "unit-sphere", "seeds": list(range(1000))}]
    radii = [{"law": "sphere", "radius": list(range(1, 3000))}]
    etas = [{"name": "ngd", "eta": list(range(1, 3000))}]
    with pytest.raises(ValueError, match="memory"):
        jaxsim.study.build(**content | {"problem": many, "init": radii, "rule": etas})


def test_deep_structures_in_python_are_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(ValueError, match="^record: expected tables"):
        jaxsim.study.build(steps=10, record=loop)


WHOLE = [
    ("status", "--nothing", "--nothing"),
    ("verify", "--sample -1", "sample: expected at least 0; got -1"),
    ("verify", "--sample x", "--sample: "),
    ("verify", "--cores 2000", "cores: expected at most 1024; got 2000"),
    ("plot", "--against nothing", "against: "),
    ("plot", "--to picture.docx", "to: expected a name that ends in "),
    ("plot", "--to picture", "to: expected a name that ends in "),
    ("map", "--cell -1", "cell: expected at least 0; got -1"),
    ("map", "--cell 4", "cell: expected 0 to 3; got 4"),
    ("map", f"--cell {'9' * 300}", "cell: expected 0 to 3"),
    ("map", "--cell 0", "cell: "),
    ("map", "--to picture.docx", "to: expected a name that ends in .png"),
    ("export", "--to all.csv", "to: expected a name that ends in .parquet, .nc or .zarr; got 'all.csv'"),
    ("export", "--to all", "to: expected a name that ends in .parquet"),
    ("export", "--to file", "to: expected a new file; 'file' exists"),
    ("export", "--to start.npy", "to: expected a new file; 'start.npy' exists"),
    ("export", "", "--to: expected a value; got none"),
]


@pytest.fixture(scope="module")
def begun(place):
    """The folder of a study that was begun and has no shard yet."""
    (place / "begun").mkdir()
    study = small()
    book = manifest.Manifest(manifest.manifest_of(place / "begun"))
    book.put(study=study.model_dump(), hash=study.hash)
    book.close()
    return place


@pytest.mark.parametrize(("command", "options", "words"), WHOLE)
def test_commands_on_a_study_that_was_begun(command, options, words, begun, capsys):
    hostile.refused(["study", command, "begun", *shlex.split(options)], words, begun, capsys)

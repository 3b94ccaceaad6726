"""Members from outside in every place: Python, command line, studies in this process and on workers, pages, figures."""

import os
import pathlib
import shutil
import sys
import tomllib
from importlib import resources

import commands
import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from study_files import SPHERE, TOML, contents, small

import jaxsim
from jaxsim import _plugins, cli, plot, rules
from jaxsim import study as studies
from jaxsim._plugins import REGISTRIES
from jaxsim.study import audit, cells
from jaxsim.study.manifest import read
from jaxsim.study.shards import Workshop

FILE = pathlib.Path(__file__).parent / "plugin" / "outsider.py"
NAMES = ("outsider", "root-norm", "rootnorm", "between-spheres", "betweenspheres", "twin-tokens", "twin_tokens",
         "with-growth")  # fmt: skip
STUDY = dict(
    steps=40, shard=20, stop={"lanes": 20}, problem=[{"family": "twin-tokens", "spread": [0.5, 1.0]}],
    init=[{"law": "between-spheres", "outer": [1, 3]}], rule=[{"name": "root-norm", "eta": 0.2}], train="with-growth",
)  # fmt: skip


@pytest.fixture(scope="module")
def outsider():
    """The package of the example, registered for the length of this module."""
    before = {kind: (dict(r._members), dict(r._sources)) for kind, r in REGISTRIES.items()}
    _plugins.load(os.fspath(FILE))
    yield sys.modules["outsider"]
    for kind, (members, sources) in before.items():
        REGISTRIES[kind]._members, REGISTRIES[kind]._sources = members, sources
    del sys.modules["outsider"]


@pytest.fixture
def alone():
    """No member from outside, for the length of a test."""
    before = {kind: (dict(r._members), dict(r._sources)) for kind, r in REGISTRIES.items()}
    module = sys.modules.pop("outsider", None)
    for registry in REGISTRIES.values():
        for name in registry.outside():
            del registry._members[name], registry._sources[name]
    yield
    for kind, (members, sources) in before.items():
        REGISTRIES[kind]._members, REGISTRIES[kind]._sources = members, sources
    sys.modules.pop("outsider", None)
    if module is not None:
        sys.modules["outsider"] = module


def test_no_file_of_the_package_knows_the_example():
    root = pathlib.Path(jaxsim.__file__).parent
    for path in root.rglob("*.*"):
        if path.suffix in (".py", ".toml", ".html", ".js"):
            text = path.read_text(encoding="utf-8").lower()
            assert not any(name in text for name in NAMES), path


def test_every_function_takes_members_from_outside(outsider, key):
    problem = jaxsim.data.FAMILIES["twin-tokens"](key)
    rule, law = outsider.RootNorm(0.3), outsider.BetweenSpheres(3.0)
    run = jaxsim.simulate(problem, rule, law, key=key, lanes=8, steps=60, train=outsider.Growing())
    assert run.label == "RootNorm 0.3" and run.more["growth"].shape == run.norm.shape
    start = np.sqrt((run.start**2).sum(1) + run.outside)
    assert (start >= 1.5).all() and (start <= 3.0).all() and np.ptp(start) > 0.1
    assert repr(jaxsim.survey(problem, rule, law, key=key, lanes=8, steps=60)).startswith("Survey of RootNorm(eta=0.3)")
    line = jaxsim.regress(np.eye(3), [1, -1, 1], rule, jaxsim.init.Gaussian(), key=key, lanes=2, steps=20)
    assert np.isfinite(line.norm).all()
    plane = jaxsim.basins.random_plane(problem, key)
    found = jaxsim.basins.basin_map(problem, rule, plane, resolution=(3, 3), steps=20)
    figure = plot.maps([found], "title")
    assert any("RootNorm 0.3" in text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))


def test_the_command_line_takes_a_plugin(alone, tmp_path):
    shutil.copy(FILE, tmp_path)
    options = "--data twin-tokens --n 3 --rule root-norm=0.5 --init between-spheres --scale 2 --train with-growth"
    more = [*options.split(), "--lanes", "8", "--steps", "20", "--out", "made"]
    said = commands.invoke("run", *more, cwd=tmp_path)
    assert said.code == 2 and said.err.startswith("error data: expected digits, signal-noise, ")
    said = commands.invoke("run", "--plugin", "outsider", *more, cwd=tmp_path)
    assert said.code == 0 and "RootNorm 0.5" in said.out, said.err
    assert commands.invoke("report", "made", cwd=tmp_path).code == 0
    assert "RootNorm 0.5" in (tmp_path / "made" / "report.html").read_text(encoding="utf-8")
    said = commands.invoke("replay", "made", "--lane", "3", "--plugin", "./outsider.py", cwd=tmp_path)
    assert said.code == 0, said.err
    said = commands.invoke("run", "--plugin", "outsider", "--help", cwd=tmp_path)
    for name in ("; also root-norm", ", between-spheres", ", twin-tokens", "; also with-growth"):
        assert name in " ".join(said.out.replace("│", " ").split())


@pytest.mark.parametrize(
    ("code", "name", "words"),
    [
        (None, "absent", "plugin: cannot import 'absent': ModuleNotFoundError"),
        (None, "absent.py", "plugin: cannot import 'absent.py': FileNotFoundError"),
        ("x = 1", "mute.py", "plugin: 'mute.py' registers nothing; expected a module that calls jaxsim.register"),
        ("x = ", "cut", "plugin: cannot import 'cut': SyntaxError"),
        ("import jaxsim\n@jaxsim.register\nclass A:\n    def place(self): ...", "bad.py", "law: A is no pytree"),
    ],
)
def test_a_module_that_is_no_plugin_is_one_line(code, name, words, alone, tmp_path):
    if code is not None:
        (tmp_path / f"{name.removesuffix('.py')}.py").write_text(code)
    for command in (["run", "--lanes", "nonsense"], ["study", "status", "nowhere"]):
        said = commands.invoke(*command, "--plugin", name, cwd=tmp_path)
        assert said.code == 2 and words in said.err and len(said.err.splitlines()) == 1, said.err


def test_every_command_takes_plugins():
    def leaves(command):
        inner = getattr(command, "commands", None)
        return [command] if inner is None else [leaf for each in inner.values() for leaf in leaves(each)]

    from jaxsim.cli import commands as made

    found = leaves(typer.main.get_command(made.app))
    assert len(found) > 12 and cli
    for command in found:
        assert [option.opts for option in command.params].count(["--plugin"]) == 1, command.name


def test_a_study_says_where_members_came_from(outsider, tmp_path):
    study = studies.build(**STUDY)
    source = REGISTRIES["rule"].source("root-norm")
    assert set(study.sources) == {"problem", "init", "rule", "train"}
    assert study.sources["rule"] == {"root-norm": source} and source["module"] == "outsider"
    assert study.what_shards_depend_on()["sources"] == study.sources
    assert "sources" not in small().model_dump() and small().sources is None
    studies.run(study, tmp_path / "s")
    reader = jaxsim.open_study(tmp_path / "s")
    assert reader.study == study and reader.done.all() and not reader.failed
    assert audit.verify(tmp_path / "s").different == []
    assert audit.export(tmp_path / "s", tmp_path / "all.parquet") == 80
    assert commands.invoke("report", "s", cwd=tmp_path).code == 0
    assert "root-norm" in (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    plot.fractions(reader.fractions(), "outer")


def test_another_version_is_refused_like_any_other_change(outsider, tmp_path, monkeypatch):
    studies.run(studies.build(**STUDY), tmp_path / "s")
    monkeypatch.setitem(REGISTRIES["rule"]._sources, "root-norm", {"distribution": "outsider", "version": "2.0"})
    other = studies.build(**STUDY)
    with pytest.raises(ValueError, match="holds another study") as error:
        studies.run(other, tmp_path / "s")
    assert "sources.rule.root-norm.version: None there, '2.0' here" in str(error.value)
    assert other.hash != jaxsim.open_study(tmp_path / "s").study.hash
    with pytest.raises(ValueError, match="sources: the study was begun with other members from outside"):
        Workshop(jaxsim.open_study(tmp_path / "s").study, {})


def test_a_folder_whose_members_nobody_registered_says_which(outsider, tmp_path, request):
    studies.run(studies.build(**STUDY), tmp_path / "s")
    request.getfixturevalue("alone")
    with pytest.raises(ValueError, match="nobody has registered twin-tokens of outsider, .*--plugin MODULE"):
        jaxsim.open_study(tmp_path / "s")
    with pytest.raises(ValueError, match=r"rule\[0\].name: expected one of gd, ngd, .*; got 'root-norm'; .*--plugin"):
        studies.build(**STUDY)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_workers_load_the_same_plugins(alone, tmp_path):
    shutil.copy(FILE, tmp_path)
    text = TOML.replace('family = "unit-sphere"\nn = 3\nT = 4\nd = 5', 'family = "twin-tokens"\nn = 3')
    text = text.replace('name = "ngd"', 'name = "root-norm"').replace("lanes = 60", "lanes = 20")
    (tmp_path / "s.toml").write_text(text.replace('law = "sphere"\nradius', 'law = "between-spheres"\nouter'))
    for out, workers in (("here", "here"), ("there", "dask")):
        more = ["--out", out, "--workers", workers, "--cores", "1", "--plugin", "outsider"]
        done = commands.shell("study", "run", "s.toml", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    _plugins.load(os.fspath(tmp_path / "outsider.py"))
    assert contents(tmp_path / "here") == contents(tmp_path / "there") and len(contents(tmp_path / "here")[0]) == 4


COSINE = {"schedule": "cosine", "init": 0.5, "steps": 60}


def test_schedules_blocks_and_optax_in_a_study_are_those_of_simulate(tmp_path):
    (tmp_path / "s.toml").write_text(
        TOML.replace(
            'eta = [0.1, 0.2]',
            'eta = [0.1, {schedule = "cosine", init = 0.5, steps = 60}]\n[[rule]]\nname = "per-block"\n'
            'rules = [{name = "ngd", eta = 0.1}, {name = "gd", eta = 0.5}]\n[[rule]]\nname = "optax"\n'
            'transformation = {name = "adam", learning_rate = 0.05}',
        ).replace("seed = 3", 'seed = 3\ntrain = "joint"\nbatch = 2')
    )  # fmt: skip
    study = studies.load(tmp_path / "s.toml")
    assert [c.label for c in study.rules] == [
        "ngd eta=0.1", "ngd eta=cosine(init=0.5 steps=60)", "per-block rules=ngd,gd",
        "optax transformation=adam",
    ]  # fmt: skip
    made = [
        rules.NGD(0.1), rules.NGD(rules.schedule("cosine", init=0.5, steps=60)),
        rules.PerBlock(rules.NGD(0.1), rules.GD(0.5)), rules.Optax(rules.transformation("adam", learning_rate=0.05)),
    ]  # fmt: skip
    joint = jaxsim.train.Joint(batch=2, key=jax.random.fold_in(jax.random.key(3), 2**32 - 2))
    studies.run(study, tmp_path / "s")
    reader = jaxsim.open_study(tmp_path / "s")
    assert reader.study == study and not reader.failed
    with jax.enable_x64(False):
        for k, rule in enumerate(made):
            run = jaxsim.simulate(
                jaxsim.data.unit_sphere(jax.random.key(0), 3, 4, 5), rule, jaxsim.init.Sphere(0.1), lanes=20, steps=60,
                first=20, record=[], key=cells.key_of(study, reader.cell(k)), train=joint,
            )  # fmt: skip
            table = reader.table(k).to_table()[20:40]
            np.testing.assert_array_equal(table["norm"], run.norm[:, -1].astype(np.float32))
            np.testing.assert_array_equal(table["decoder_norm"], run.more["decoder_norm"][:, -1].astype(np.float32))
    assert audit.export(tmp_path / "s", tmp_path / "all.parquet") == 480
    assert set(pq.read_table(tmp_path / "all.parquet")["rule.eta"].to_pylist()) == {
        "0.1", "cosine(init=0.5 steps=60)", None,
    }  # fmt: skip
    text = commands.invoke("report", "s", cwd=tmp_path)
    assert text.code == 0, text.err


def test_the_file_in_a_report_is_the_study():
    from jaxsim.report.studies import study_file

    study = small(
        rule=[{"name": "ngd", "eta": [0.1, COSINE]}, {"name": "per-block", "rules": [{"name": "ngd", "eta": COSINE}]}],
        batch=2,
    )
    again = studies.build(**tomllib.loads(study_file(study)))
    assert again == study and again.hash == study.hash


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": "nothing"}, "^train: expected one of weights, joint, key-query.*; got 'nothing'; .*jaxsim.register"),
        ({"train": {"kind": "key-query"}}, "^train.width: missing"),
        ({"train": {"kind": "key-query", "width": 2, "depth": 3}}, "^train.depth: unknown key; expected one of kind, "),
        ({"train": {"kind": "key-query", "width": 2}}, "^train: init: expected jaxsim.init.Gaussian"),
        ({"train": {"kind": "key-query", "width": 2}, "batch": 2}, "^batch: has no meaning for train = 'key-query'"),
        ({"train": 3}, "^train: expected a table of keys; got 3"),
        ({"batch": 4}, "^train: batch: expected at most n = 3 sequences; got 4"),
        ({"batch": 0}, "^batch: expected at least 1; got 0"),
        ({"sources": {}}, "^sources: unknown key"),
        ({"rule": [{"name": "ngd", "eta": {"schedule": "saw"}}]}, r"^rule\[0\].eta\[0\]: schedule: expected one of"),
        ({"rule": [{"name": "ngd", "eta": {"schedule": "cosine"}}]}, r"^rule\[0\].eta\[0\]: schedule: cosine lacks"),
        ({"rule": [{"name": "mirror", "eta": 0.1, "p": COSINE}]}, r"^rule\[0\].p: expected a number; got cosine"),
        ({"rule": [{"name": "per-block", "rules": [{"name": "x"}]}]}, r"rules\[0\]\[0\].name: expected one of gd, ngd"),
        ({"rule": [{"name": "per-block", "rules": [{"name": "ngd", "eta": [1, 2]}]}]}, "one value of each parameter"),
        ({"rule": [{"name": "optax", "transformation": {"name": "x"}}]}, "transformation: expected one of sgd, adam"),
        ({"init": [{"law": "zero", "seeds": 3}]}, r"^init\[0\].seeds: unknown key; expected one of law"),
    ],
)  # fmt: skip
def test_what_a_study_cannot_be_is_told_by_key(changes, words):
    with pytest.raises(ValueError, match=words):
        small(**changes)


def test_what_is_left_out_and_what_is_said_are_the_same_study():
    assert small(train="weights") == small() and small(train={"kind": "weights"}).hash == small().hash
    hashes = {small(train="joint").hash, small(batch=2).hash, small(batch=3).hash, small().hash}
    assert len(hashes) == 4
    assert "train" not in small(problem=[SPHERE]).model_dump_json()


def test_studies_have_the_hashes_that_they_had_before_there_were_registries():
    """Of the example file and of `small`; folders that were begun with them go on."""
    assert small().hash == "9cfd676a91672bc0149375587d9bdb51c70fe6800f5f76c2d532f2bb961ec3ee"
    example = resources.files("jaxsim.study").joinpath("example.toml").read_text(encoding="utf-8")
    assert studies.build(**tomllib.loads(example)).hash == (
        "e2ea7138dfe1e9e2481e20c97d2338486fe8f2a6f35c025d8f6aa709c7ae6ba5"
    )


def test_an_installed_package_needs_no_plugin(tmp_path):
    """Announced by an entry point, as far as importlib.metadata looks; its distribution and version are recorded."""
    shutil.copy(FILE, tmp_path / "faraway.py")
    text = (tmp_path / "faraway.py").read_text(encoding="utf-8")
    (tmp_path / "faraway.py").write_text(
        text.replace("@jaxsim.register\n", "").replace('@jaxsim.register(name="', "# ")
    )
    info = tmp_path / "faraway-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faraway\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[jaxsim.rules]\nroot-norm = faraway:RootNorm\n[jaxsim.laws]\nbetween-spheres = faraway:BetweenSpheres\n"
        "[jaxsim.data]\ntwin-tokens = faraway:twin_tokens\n[jaxsim.train]\nwith-growth = faraway:Growing\n"
    )
    text = TOML.replace('family = "unit-sphere"\nn = 3\nT = 4\nd = 5', 'family = "twin-tokens"\nn = 3')
    text = text.replace('name = "ngd"', 'name = "root-norm"').replace("lanes = 60", "lanes = 20")
    (tmp_path / "s.toml").write_text(text.replace('law = "sphere"\nradius', 'law = "between-spheres"\nouter'))
    here = {"PYTHONPATH": os.fspath(tmp_path)}
    for out, workers in (("here", "here"), ("there", "dask")):
        done = commands.shell(
            "study", "run", "s.toml", "--out", out, "--workers", workers, "--cores", "1", cwd=tmp_path, env=here
        )
        assert done.returncode == 0, done.stderr
    assert read(tmp_path / "here").meta["study"]["sources"]["rule"] == {
        "root-norm": {"distribution": "faraway", "version": "1.2"}
    }
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faraway\nVersion: 1.3\n")
    done = commands.shell("study", "run", "s.toml", "--out", "here", cwd=tmp_path, env=here)
    assert done.returncode == 2 and b"sources.rule.root-norm.version: '1.2' there, '1.3' here" in done.stderr

"""The command line as a user meets it: in a process of its own."""

import inspect
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import jaxsim
from jaxsim.cli import table

SMALL = ["--lanes", "40", "--steps", "60"]


def command(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "jaxsim", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=300, env=os.environ | {"COLUMNS": "100"} | environment,
    )  # fmt: skip


def test_default_problem_small(tmp_path):
    done = command("run", *SMALL, "--out", "res", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("digits 3 and 8, with positions", "‖W_mm‖=15.15", "transient", "nonfinite", "rate", "res/figure.png"):
        assert word in done.stdout, word
    assert "running digits 3 and 8: ngd" in done.stderr
    settings = json.loads((tmp_path / "res" / "settings.json").read_text())
    assert (
        settings["lanes"] == 40
        and settings["rule"][1] == "NGD(eta=0.5)"
        and settings["command"].startswith("jaxsim run")
    )
    assert "jax" in json.loads((tmp_path / "res" / "environment.json").read_text())["packages"]
    assert len(pd.read_parquet(tmp_path / "res" / "lanes.parquet")) == 2 * 3 * 40


def test_every_family_file_law_and_dtype(tmp_path):
    jaxsim.data.save(jaxsim.data.digits(images=6), tmp_path / "mine.npz")
    np.save(tmp_path / "w0.npy", np.eye(16) * np.arange(1, 9)[:, None, None])
    calls = [
        ("--data", "signal-noise", "--n", 4, "--signal", 3.0, "--rule", "ngd=0.1", "--init", "sphere"),
        ("--data", "orthonormal", "--init", "zero", "--loss", "linear", "--rule", "gd=1", "--rule", "gd=2"),
        ("--data", "next-token", "--vocabulary", 9, "--loss", "negative-log", "--rule", "ngd=0.1"),
        ("--data", "mine.npz", "--init", "w0.npy", "--dtype", "float32", "--full", "--rule", "polyak=1"),
    ]
    for k, call in enumerate(calls):
        done = command("run", *call, *([] if k % 2 else ["--lanes", 8]), "--steps", 20, "--out", f"r{k}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    run = jaxsim.Run.load(tmp_path / "r3" / "run-mine-0-polyak.npz")
    assert run.settings["dtype"] == "float32" and run.lanes == 8


@pytest.mark.parametrize(
    ("options", "column", "word"),
    [
        (["--train", "joint", "--batch", "2", "--rule", "adam=0.1"], "decoder_norm", "‖u‖"),
        (["--train", "key-query", "--width", "2", "--nuclear"], "nuclear_direction_error", "error, nuclear"),
        (["--train", "heads", "--heads", "3"], "distinct_heads", "distinct heads"),
    ],
)
def test_more_than_W_may_be_trained(options, column, word, tmp_path):
    data = ["--data", "unit-sphere", "--n", 3, "-T", 3, "-d", 4, "--lanes", 8, "--steps", 20, "--rule", "ngd=0.1"]
    done = command("run", *data, *options, "--out", "res", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert word in done.stdout
    assert pd.read_parquet(tmp_path / "res" / "lanes.parquet")[column].notna().all()
    assert column in set(pd.read_parquet(tmp_path / "res" / "curves.parquet")["quantity"])
    assert json.loads((tmp_path / "res" / "settings.json").read_text())["train"] == options[1]


BAD = [
    (["--data", "letters"], "data: expected digits, signal-noise"),
    (["--data", "absent.npz"], "data: expected a readable .npz file"),
    (["--data", "digits", "--dim", "5"], "--dim: has no meaning for --data digits"),
    (["--n", "7"], "images: expected an even number"),
    (["--classes", "3"], "classes: expected two digits, such as 3,8"),
    (["--positions", "maybe"], "positions: expected none, one-hot or both"),
    (["--rule", "lion=1"], "rule: expected NAME=STEP with a name among gd, ngd, polyak, heavy-ball, nesterov,"),
    (["--rule", "gd"], "rule: expected NAME=STEP"),
    (["--rule", "gd=fast"], "rule: expected a number after gd="),
    (["--rule", "ngd=0"], "eta: expected a number above 0; got 0"),
    (["--rule", "ngd=nan"], "eta: expected a finite number"),
    (["--max-step", "-1"], "max_step: expected a number above 0"),
    (["--lanes", "0"], "lanes: expected at least 1; got 0"),
    (["--steps", "0"], "steps: expected at least 1; got 0"),
    (["--scale", "0"], "scale: expected a number above 0"),
    (["--init", "uniform"], "init: expected gaussian, sphere, zero or a FILE.npy"),
    (["--init", "absent.npy"], "init: expected a readable .npy file"),
    (["--loss", "hinge"], "loss: expected one of"),
    (["--dtype", "float16"], "dtype: expected float32 or float64"),
    (["--rule", "ngd=1", "--rule", "ngd=1.0"], "rule: 'ngd=1' is given twice"),
    (["--init", "zero"], "lanes: --init zero is one start"),
    (["--init", "zero", "--lanes", "1", "--scale", "2"], "--scale: has no meaning for --init zero"),
    (
        ["--data", "unit-sphere", "--classes", "1,2"],
        "--classes: has no meaning for --data unit-sphere, which takes --n",
    ),
    (["--train", "all"], "train: expected weights, joint, key-query, heads; got 'all'"),
    (["--width", "2"], "--width: has no meaning for --train weights"),
    (["--heads", "2"], "--heads: has no meaning for --train weights"),
    (["--train", "heads", "--heads", "0"], "heads: expected at least 1; got 0"),
    (["--train", "joint", "--nuclear"], "--nuclear: has no meaning for --train joint"),
    (["--train", "key-query", "--batch", "2"], "--batch: has no meaning for --train key-query"),
    (["--train", "key-query", "--width", "0"], "width: expected at least 1; got 0"),
    (["--train", "key-query", "--init", "zero", "--lanes", "1"], "init: expected jaxsim.init.Gaussian"),
    (["--train", "key-query", "--rule", "adam=0.1"], "acts on the matrix W"),
    (["--train", "joint", "--loss", "linear"], "loss: joint training needs a loss whose infimum is 0"),
    (["--batch", "21"], "batch: expected at most n = 20 sequences; got 21"),
    (["--memory", "0"], "memory: expected at least 1"),
    (["--out", "full"], "out: expected a new or empty folder"),
]


def refused(name, arguments, message, capsys, monkeypatch):
    """The command ends with exit code 2 and this message."""
    from jaxsim import cli

    monkeypatch.setattr(sys, "argv", ["jaxsim", name, *arguments])
    monkeypatch.setattr("jax.config.update", lambda *_: None)  # this process has its configuration already
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_explained_and_nothing_is_written(arguments, message, tmp_path, capsys, monkeypatch):
    """In this process, to keep it quick; one case below goes through a shell."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    monkeypatch.chdir(tmp_path)
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    refused("run", ["--cores", "2", *SMALL, *arguments], message, capsys, monkeypatch)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_exit_code_and_message_through_a_shell(tmp_path):
    done = command("run", "--lanes", "0", cwd=tmp_path)
    assert done.returncode == 2 and "error lanes: expected at least 1; got 0" in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_help_and_version(tmp_path):
    text = command("run", "--help", cwd=tmp_path, TERM="dumb").stdout
    for option in (
        "--data",
        "--rule",
        "--init",
        "--scale",
        "--lanes",
        "--steps",
        "--loss",
        "--dtype",
        "--seed",
        "--out",
    ):
        assert option in text, option
    assert command("--version", cwd=tmp_path).stdout == f"jaxsim {jaxsim.__version__}\n"


def test_console_script_is_declared():
    text = (pathlib.Path(jaxsim.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert 'jaxsim = "jaxsim.cli:main"' in text


def test_compiled_programs_are_kept_on_request(tmp_path):
    arguments = ["run", "--data", "unit-sphere", "--rule", "ngd=0.1", *SMALL, "--cache", "programs"]
    assert command(*arguments, "--out", "one", cwd=tmp_path).returncode == 0

    def kept():  # small programs are kept if compiling them took long enough, which depends on the machine's load
        return {path.name for path in (tmp_path / "programs").glob("*run_blocks*-cache")}

    once = kept()
    assert once
    assert command(*arguments, "--out", "two", cwd=tmp_path).returncode == 0
    assert kept() == once
    (tmp_path / "file").write_text("")
    done = command(*arguments[:-1], "file/inside", "--out", "three", cwd=tmp_path)
    assert done.returncode == 2 and "cache: cannot make the folder" in done.stderr
    assert not (tmp_path / "three").exists()
    assert command(*arguments[:-1], "none", "--out", "four", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "none").exists()


def test_a_program_that_was_kept_in_part_is_made_anew_without_a_word(tmp_path):
    arguments = ["run", "--data", "unit-sphere", "--rule", "ngd=0.1", *SMALL, "--cache", "programs"]
    assert command(*arguments, "--out", "one", cwd=tmp_path).returncode == 0
    whole = {path: path.stat().st_size for path in (tmp_path / "programs").glob("*-cache")}
    torn = {path for path in whole if "run_blocks" in path.name}
    assert torn
    for path in torn:  # as a process leaves it that is killed while it writes
        path.write_bytes(path.read_bytes()[: whole[path] // 2])
    done = command(*arguments, "--out", "two", cwd=tmp_path)
    assert done.returncode == 0 and "Error" not in done.stderr and "arn" not in done.stderr, done.stderr
    for path in torn:
        assert path.stat().st_size > 0.8 * whole[path]


def test_geometry_prints_its_table(tmp_path):
    done = command("geometry", "--steps", "300", "--lanes", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("unit-sphere: n=4, T=5, d=6; 2 lanes, 300 steps", "nuclear", "SignDescent 0.02", "Mirror 0.1, p=3.0"):
        assert word in done.stdout, word
    written = {path.name for path in (tmp_path / "jaxsim-geometry-001").iterdir()}
    assert written == {"settings.json", "environment.json", "geometry-unit-sphere.npz", "figure.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digits", "-d", "7"], "--dim: has no meaning for --data digits, which takes --n,"),
        (["--data", "digits", "-T", "3"], "--tokens: has no meaning for --data digits"),
        (["--data", "some.npz", "--n", "3"], "--n: has no meaning for --data some.npz"),
        (["--data", "orthonormal", "-d", "7"], "d: expected at least n·T = 20"),
    ],
)
def test_geometry_refuses_what_it_would_ignore(arguments, message, capsys, monkeypatch):
    refused("geometry", arguments, message, capsys, monkeypatch)


def test_brackets_in_names_are_no_markup(capsys):
    for name in ("out[old]", "a[/b]"):
        table.where(pathlib.Path(name), 1.0)
        assert f"Results in {name} ({name}/figure.png). 1.0 s in all." in capsys.readouterr().out


def test_rules_take_parameters_and_help_tells_them():
    from jaxsim.cli import options
    from jaxsim.rules import MATRIX_RULES, RULES, Mirror, Polyak, Spectral, numbers_first

    assert repr(options.named_rule("mirror=0.1,p=1.2", 9.0)) == repr(Mirror(0.1, p=1.2))
    polyak = repr(Polyak(2.0, optimal_loss=0.1, max_step=9.0))
    assert repr(options.named_rule("polyak=2,optimal_loss=0.1", 9.0)) == polyak
    spectral = repr(Spectral(0.1, method="newton-schulz"))
    assert repr(options.named_rule("spectral=0.1,method=newton-schulz", 9.0)) == spectral
    assert options.asked_rule("mirror=0.1,p=1.2@1e6", 9.0, 10).steps == 10**6
    for name, rule in (RULES | MATRIX_RULES).items():
        if numbers_first(rule) and rule.__module__.startswith("jaxsim."):
            _, *further = inspect.signature(rule).parameters
            assert name in options.PARAMETERS and all(word in options.PARAMETERS for word in further)


def test_help_tells_the_sizes_that_problems_have_by_default():
    """The text is typed, since help must not cost the imports that know them."""
    from jaxsim.cli import options

    told = dict(each.split(" ", 1) for each in options.SIZES.removeprefix("(n, T, d): ").split("; "))
    for family, sizes in told.items():
        (problem, *_) = options.named_problems(family, {}, 0).values()
        assert sizes == ", ".join(map(str, (*problem.shape[:2], problem.W_shape[0]))), family
    assert set(told) == {name for name in jaxsim.data.FAMILIES if jaxsim.data.FAMILIES.source(name) is None}


def test_compiled_programs_are_kept_among_the_users_caches_and_that_is_said_once(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | {"XDG_CACHE_HOME": str(tmp_path)}
    programs = tmp_path / "jaxsim" / "programs"

    def version(**more):
        done = subprocess.run(
            [sys.executable, "-m", "jaxsim", "geometry", "--help"], capture_output=True, text=True, cwd=tmp_path,
            env=environment | more,
        )  # fmt: skip
        assert done.returncode == 0
        return done.stderr

    assert version(JAX_COMPILATION_CACHE_DIR="") == "" and not programs.exists()
    assert f"are kept in {programs}" in version()
    assert programs.stat().st_mode & 0o777 == 0o700
    (programs / "one-cache").touch()
    assert version() == ""
    programs.chmod(0o777)  # where others write, nothing is read
    (programs / "one-cache").unlink()
    assert version() == "" and not list(programs.iterdir())

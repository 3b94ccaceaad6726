"""`jaxsim study` as a user meets it, from the example file to its figure."""

import contextlib
import io
import os
import pathlib
import pty
import re
import subprocess
import sys
import time

import pytest
from study_files import TOML

import jaxsim
from jaxsim import cli
from jaxsim import study as studies
from jaxsim.cli.live import duration


def study(*arguments, cwd, code=0):
    """What a command prints, in this process to keep it quick; others go through a shell or a terminal."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", "110")
        patch.setattr(sys, "argv", ["jaxsim", "study", *map(str, arguments)])
        patch.setattr("jax.config.update", lambda *_: None)  # this process has its configuration already
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert (stop.value.code or 0) == code, said.getvalue()
    return said.getvalue()


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example file, and a folder with a short run of it."""
    place = tmp_path_factory.mktemp("example")
    text = study("example", cwd=place)
    (place / "basin.toml").write_text(text)
    text = text.replace("steps = 2000", "steps = 50").replace("[0.1, 1, 3, 10, 30, 100, 300]", "[0.1, 10]")
    head, first, _, last = text.split("[[problem]]")  # one family, so that little has to be compiled
    text = head + "[[problem]]" + first + last[last.index("[[init]]") :]
    (place / "short.toml").write_text(text.replace("half_width = 0.04", "half_width = 0.2").replace("4000", "400"))
    return place


def test_the_example_is_a_study_of_three_rules_on_three_families(example):
    spec = studies.load(example / "basin.toml")
    assert [c.kind for c in spec.problems] == ["unit-sphere", "orthonormal", "signal-noise"]
    assert [c.kind for c in spec.rules] == ["gd", "ngd", "polyak"] and len(spec.inits) == 7
    assert spec.stop.half_width == 0.04 and spec.most_shards == 20


def test_run_status_verify_export_and_plot(example):
    said = study("run", "short.toml", cwd=example)
    assert "6 shards made. Results in short: jaxsim study status short" in said
    assert "of 6 cells done" in said
    assert "nothing was left to do" in study("run", "short.toml", cwd=example)
    said = study("status", "short", cwd=example)
    for words in ("basin: 6 of 6 cells done, 1,200 lanes in 6 shards", "95% interval", "valid whenever one stops"):
        assert words in said
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxsim.cli.study.ROWS", 2)  # in this process
        few, every = (study("status", "short", *further, cwd=example) for further in ([], ["--all"]))
    assert "the 2 widest intervals of 6; --all shows every cell" in few and few.count("unit-sphere") == 2
    assert "widest" not in every and every.count("unit-sphere") == 6
    assert "6 of 6 shards have their recorded hash; 1 computed again, all the same" in study(
        "verify", "short", "--sample", 1, cwd=example
    )
    assert study("export", "short", "--to", "all.parquet", cwd=example) == "1,200 lanes in all.parquet\n"
    assert study("plot", "short", cwd=example) == "short/figure.png\n"
    assert (example / "short" / "figure.png").stat().st_size > 10_000
    shard = next((example / "short" / "shards" / "0000").iterdir())
    shard.unlink()
    said = study("status", "short", cwd=example, code=1)
    assert f"damaged: shards/0000/{shard.name} (missing)" in said
    said = study("run", "short.toml", cwd=example, code=1)
    assert f"damaged: shards/0000/{shard.name} (missing)" in said and "run again with --repair" in said
    said = study("export", "short", "--to", "more.parquet", cwd=example, code=2)
    assert "1 of 6 shards are damaged" in said and not (example / "more.parquet").exists()
    assert "1,000 lanes" in study("export", "short", "--to", "more.parquet", "--leave-out", cwd=example)
    assert "5 of 6 shards have" in study("verify", "short", "--sample", 0, cwd=example, code=1)
    assert "1 shard made, 1 of them repaired" in study("run", "short.toml", "--repair", cwd=example)
    assert shard.exists()


def test_the_plane_of_the_readme_is_mapped(example):
    text = (pathlib.Path(jaxsim.__file__).parent / "study" / "README.md").read_text(encoding="utf-8")
    law = next(block for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "random-plane" in block)
    short = (example / "short.toml").read_text()
    head, rest = short.split("[[init]]")
    plane = (head + law + "\n[[rule]]" + rest.split("[[rule]]", 1)[1]).split("[stop]")[0] + "[stop]\nlanes = 400\n"
    (example / "plane.toml").write_text(plane.replace("[512, 512]", "[25, 16]"))
    study("run", "plane.toml", cwd=example)
    assert study("map", "plane", "--cell", 1, cwd=example) == "plane/map-1.png\n"
    assert sorted(path.name for path in (example / "plane").glob("map-*")) == [
        "map-0.npz", "map-1.npz", "map-1.png", "map-2.npz"
    ]  # fmt: skip
    assert " - " in study("status", "plane", cwd=example)
    assert "cell: expected 0 to 2; got 9" in study("map", "plane", "--cell", 9, cwd=example, code=2)
    study("run", "short.toml", cwd=example)  # the test that did may have run in another process
    assert "expected one whose law is a plane" in study("map", "short", cwd=example, code=2)


@pytest.mark.slow
def test_the_whole_example_takes_less_than_three_minutes(example):
    began = time.perf_counter()
    said = study("run", "basin.toml", cwd=example)
    study("plot", "basin", cwd=example)
    print(f"{time.perf_counter() - began:.0f} s: {said}")
    assert time.perf_counter() - began < 180
    assert jaxsim.open_study(example / "basin").done.all()


def test_the_readme_reads_the_study(example):
    study("run", "short.toml", cwd=example)
    text = (pathlib.Path(jaxsim.__file__).parent / "study" / "README.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "open_study" in block)
    assert "jaxsim study example > basin.toml" in text
    code = "import jaxsim\n" + code.replace('"basin"', '"short"')
    subprocess.run([sys.executable, "-c", code], cwd=example, check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "nowhere"], "holds no manifest"),
        (["run", "s.toml", "--workers", "many"], "workers: expected here, dask or the address of a scheduler"),
        (["run", "s.toml", "--distributed", "here"], "distributed: expected auto or HOST:PORT,PROCESSES,THIS"),
        (["run", "s.toml", "--distributed", "noport,1,0"], "distributed: expected auto or HOST:PORT,PROCESSES,THIS"),
        (["run", "s.toml", "--distributed", "host:0,2,0"], "distributed: expected auto or HOST:PORT,PROCESSES,THIS"),
        (["run", "s.toml", "--distributed", "host:99,2,2"], "distributed: expected THIS from 0 to 1; got 2"),
        (["run", "s.toml", "--workers", "tcp://nowhere"], "workers: no Dask scheduler answers at tcp://nowhere"),
        (["export", "nowhere", "--to", "x.parquet"], "holds no manifest"),
    ],
)
def test_bad_input_is_explained(tmp_path, arguments, message):
    (tmp_path / "s.toml").write_text(TOML)
    said = " ".join(study(*arguments, cwd=tmp_path, code=2).split())
    assert message in said and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["s.toml"]


def test_a_terminal_shows_a_live_line(tmp_path):
    (tmp_path / "s.toml").write_text(TOML.replace("lanes = 60", "lanes = 1000"))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxsim", "study", "run", "s.toml"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"COLUMNS": "160", "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the terminal is closed
            break
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and b"200 shards made" in out
    for words in (b"lanes/s", b"left", b"global", b"/4"):
        assert words in shown, shown[-2000:]
    assert jaxsim.open_study(tmp_path / "s").done.all()


def test_durations_are_read_by_people():
    assert [duration(s) for s in (0.4, 100, 130, 8000, 200_000)] == ["0 s", "100 s", "2 min", "2 h", "2 days"]

"""A stream that fails or lacks characters takes nothing from a finished computation: neither results nor exit code."""

import contextlib
import io
import os
import subprocess
import sys

import pytest
from commands import SAYING, SIZE, WRITING, invoke, tree


def pipe():
    """Whose reader has gone, as in `jaxsim run | head -1`."""
    end, stream = os.pipe()
    os.close(end)
    return open(stream, "w", encoding="utf-8")


STREAMS = {
    "pipe": pipe,
    "full": lambda: open("/dev/full", "w", encoding="utf-8"),
    "shut": io.StringIO,
    "ascii": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
    "latin-1": lambda: io.TextIOWrapper(io.BytesIO(), encoding="latin-1"),
}


@contextlib.contextmanager
def failing(kind):
    """Two streams of that kind; they are closed as the interpreter does at its end, which must not fail either."""
    with STREAMS[kind]() as out, STREAMS[kind]() as err:
        if kind == "shut":
            out.close(), err.close()
        yield out, err


@pytest.mark.parametrize("kind", STREAMS)
def test_a_run_survives_its_streams(fresh, kind):
    place = fresh()
    with failing(kind) as (out, err):
        assert invoke(*WRITING["run"], "--out", "res", cwd=place, out=out, err=err).code == 0
    assert sorted(os.listdir(place / "res")) == sorted(os.listdir(place / "made"))


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITING)
def test_every_command_survives_its_streams(fresh, name):
    place = fresh()
    assert invoke(*WRITING[name], cwd=place).code == 0
    wanted = set(tree(place))
    for kind in STREAMS:
        place = fresh()
        with failing(kind) as (out, err):
            assert invoke(*WRITING[name], cwd=place, out=out, err=err).code == 0, kind
        assert set(tree(place)) == wanted, kind


@pytest.mark.parametrize("name", sorted(set(SAYING) - {"geometry"}))
def test_what_only_speaks_survives_its_streams(fresh, name):
    for kind in STREAMS:
        with failing(kind) as (out, err):
            assert invoke(*SAYING[name], cwd=fresh(), out=out, err=err).code == 0, kind


@pytest.mark.slow
def test_geometry_survives_its_streams(fresh):
    for kind in STREAMS:
        with failing(kind) as (out, err):
            assert invoke(*SAYING["geometry"], cwd=fresh(), out=out, err=err).code == 0, kind


class Watching(io.StringIO):
    """Notes what lies in a folder when it is first written to."""

    def __init__(self, place):
        super().__init__()
        self.place, self.seen = place, None

    def write(self, text):
        self.seen = set(tree(self.place)) if self.seen is None else self.seen
        return super().write(text)


@pytest.mark.parametrize("name", ["run", *(pytest.param(n, marks=pytest.mark.slow) for n in WRITING if n != "run")])
def test_results_are_written_before_anything_is_printed(fresh, name):
    place = fresh()
    out = Watching(place)
    assert invoke(*WRITING[name], cwd=place, out=out).code == 0
    assert out.seen == set(tree(place)) != set(tree(fresh()))


@pytest.mark.parametrize(("kind", "norm"), [("ascii", "||W||"), ("latin-1", "||W||"), ("utf-8", "‖W‖")])
def test_characters_fall_back_and_columns_stay_straight(fresh, kind, norm):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=kind)
    assert invoke(*WRITING["run"], "--rule", "gd=1", cwd=fresh(), out=stream).code == 0
    stream.flush()
    said = stream.buffer.getvalue().decode(kind)
    assert norm in said and "\\u" not in said
    lines = said.splitlines()
    row = next(line for line in lines if norm in line and "mm" not in line)
    first = lines.index(row)
    assert len(row) == len(lines[first - 1]) == len(lines[first + 1]) > 30


ENDS = {
    "pipe": "| head -c 1 > /dev/null; exit ${PIPESTATUS[0]}",
    "shut": ">&-",
    "both": ">&- 2>&-",
    "full": "> /dev/full",
}


@pytest.mark.parametrize("end", ["pipe", "full", *(pytest.param(e, marks=pytest.mark.slow) for e in ("shut", "both"))])
def test_through_a_shell(tmp_path, end):
    """The interpreter flushes once more when it ends, and exits with 120 where that fails."""
    call = " ".join([sys.executable, "-m jaxsim run", *SIZE, "--lanes 8 --steps 20 --rule ngd=0.1 --out res"])
    done = subprocess.run(["bash", "-c", f"{call} {ENDS[end]}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "res" / "figure.png").exists()
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("running")]
    assert lines == (["could not print everything: No space left on device"] if end == "full" else [])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["example", "version", "help", "list"])
@pytest.mark.parametrize("end", ENDS)
def test_what_only_speaks_through_a_shell(tmp_path, name, end):
    call = " ".join([sys.executable, "-m jaxsim", *SAYING[name]])
    done = subprocess.run(["bash", "-c", f"{call} {ENDS[end]}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stderr.splitlines()) == (end == "full"), done.stderr


def test_a_closed_stream_gives_its_number_to_no_file_of_results(tmp_path):
    """Else what a library writes to standard output would land in the results."""
    code = (
        "import os, sys; from jaxsim import cli; sys.argv = ['jaxsim', '--version']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "assert os.open('file', os.O_CREAT | os.O_WRONLY) > 2"
    )
    done = subprocess.run(["bash", "-c", f'{sys.executable} -c "{code}" <&- >&-'], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr

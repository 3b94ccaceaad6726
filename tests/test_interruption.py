"""Ctrl-C and SIGTERM, at any moment from the first import on: one line, exit code 130 or 143, nothing left behind."""

import os
import signal
import subprocess
import sys

import pytest
from commands import SAYING, SIZE, WRITING, tree

CODES = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
# In a process, the signal comes when a module is asked for, or some time after.
STRIKE = """
import os, signal, sys, threading
name, number, delay = os.environ["STRIKE"].split(",")
class Strike:
    def find_spec(self, asked, path=None, target=None):
        if asked == name and self in sys.meta_path:
            sys.meta_path.remove(self)
            strike = lambda: os.kill(os.getpid(), int(number))
            if float(delay):
                timer = threading.Timer(float(delay), strike)
                timer.daemon = True
                timer.start()
            else:
                strike()
sys.meta_path.insert(0, Strike())
"""
LONG = ["--steps", "2000000000", "--rule", "ngd=0.1"]
WORKING = {  # commands that would take hours, and a module that they ask for when they set to work
    "run": (["run", *SIZE, "--lanes", "64", *LONG], "jaxsim.simulation"),
    "head": (["head", "--data", "split.npz", "--lanes", "4", *LONG], "jaxsim.head"),
    "basin": (["basin", *SIZE, "--plane", "random", *LONG], "jaxsim.basins"),
    "geometry": (["geometry", *SIZE, "--lanes", "8", *LONG[:2]], "jaxsim.simulation"),
    "replay": (["replay", "made", "--lane", "3"], "jaxsim.plot"),
    "reproduce": (["reproduce", "local-convergence"], "jaxsim.reproduce.local_convergence"),
    "report": (["report", "made"], "bokeh.plotting"),
    "study run": (["study", "run", "long.toml"], "jaxsim.study.running"),
    "study status": (SAYING["status"], "jaxsim.study.reading"),
    "study verify": (SAYING["verify"], "jaxsim.study.reading"),
    "study export": (WRITING["export"], "jaxsim.study.reading"),
    "study plot": (WRITING["plot"], "matplotlib.figure"),
    "study map": (WRITING["map"], "matplotlib.figure"),
}

ENDLESS = ("run", "head", "basin", "geometry", "reproduce", "study run")


def struck(arguments, cwd, tmp_path, module, number, delay=0.0, *before):
    """The command, and the signal when it asks for the module, or so many seconds after."""
    hook = tmp_path / "hook"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(STRIKE)
    environment = os.environ | {"PYTHONPATH": os.fspath(hook), "STRIKE": f"{module},{int(number)},{delay}"}
    call = [*before, sys.executable, "-m", "jaxsim", *arguments]
    return subprocess.run(call, cwd=cwd, env=environment, capture_output=True, text=True)


def ended(done, number, words=None):
    code, said = CODES[number]
    lines = [line for line in done.stderr.splitlines() if not line.startswith("running")]
    assert (done.returncode, lines) == (code, [said] if words is None else words), done.stderr


IMPORTS = ["jax", "jax._src.core"]
MORE = ["jaxsim.cli.commands", "typer", "rich", "numpy", "scipy", "jaxtyping", "jaxsim.results", "jaxsim.cli.study"]


@pytest.mark.parametrize("number", CODES, ids=lambda s: s.name)
@pytest.mark.parametrize("module", [*IMPORTS, *(pytest.param(m, marks=pytest.mark.slow) for m in MORE)])
def test_while_modules_are_imported(tmp_path, module, number):
    ended(struck(["run"], tmp_path, tmp_path, module, number), number)
    assert [path.name for path in tmp_path.iterdir()] == ["hook"]


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES, ids=lambda s: s.name)
@pytest.mark.parametrize("delay", [0.02, 0.1, 0.3, 0.6, 1.0, 1.5, 2.5, 4.0])
def test_at_any_time_after_the_first_line(tmp_path, number, delay):
    """Whatever the machine is doing by then."""
    ended(struck(WORKING["run"][0], tmp_path, tmp_path, "typer", number, delay), number)
    assert [path.name for path in tmp_path.iterdir()] == ["hook"]


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES, ids=lambda s: s.name)
@pytest.mark.parametrize("name", WORKING)
def test_every_command_at_work(fresh, tmp_path, name, number):
    place = fresh()
    (place / "long.toml").write_text((place / "plane.toml").read_text().replace("steps = 60", "steps = 2000000000"))
    before = tree(place)
    arguments, module = WORKING[name]
    for delay in (0.0, 3.0) if name in ENDLESS else (0.0,):
        done = struck(arguments, place, tmp_path, module, number, delay)
        if name == "study run":
            assert done.returncode in {130, CODES[number][0]}  # both signals end with 130 once it is at work
            [line] = [line for line in done.stderr.splitlines() if "cells done" not in line]
            assert line in ("interrupted after 0 new shards; the same command goes on", CODES[number][1])
        else:
            ended(done, number)
            assert tree(place) == before


def test_inside_a_computation(tmp_path):
    """One call of XLA lasts for hours; the interpreter comes to nothing until it ends."""
    ended(struck(WORKING["run"][0], tmp_path, tmp_path, "jaxsim.simulation", signal.SIGINT, 6.0), signal.SIGINT)
    assert [path.name for path in tmp_path.iterdir()] == ["hook"]


@pytest.mark.parametrize(
    "module", ["matplotlib.backends.backend_agg", pytest.param("pyarrow.parquet", marks=pytest.mark.slow)]
)
def test_while_results_are_written(fresh, tmp_path, module):
    place = fresh()
    before = tree(place)
    ended(struck(WRITING["run"], place, tmp_path, module, signal.SIGINT), signal.SIGINT)
    assert tree(place) == before


@pytest.mark.slow
def test_an_interruption_that_is_ignored_stays_ignored(fresh, tmp_path):
    """As in the background of a shell script."""
    place = fresh()
    done = struck(
        WRITING["run"], place, tmp_path, "jax", signal.SIGINT, 0.0, "bash", "-c", "trap '' INT; exec \"$@\"", "bash"
    )
    assert done.returncode == 0, done.stderr


def test_handlers_go_when_the_command_is_done(tmp_path):
    from commands import invoke

    before = [signal.getsignal(number) for number in CODES], signal.set_wakeup_fd(-1)
    assert invoke("--version", cwd=tmp_path).code == 0
    assert ([signal.getsignal(number) for number in CODES], signal.set_wakeup_fd(-1)) == before


def test_the_entry_is_light():
    """What runs before anything listens is imported in an instant."""
    code = "import sys, jaxsim.cli; print([m for m in ('jax', 'numpy', 'typer', 'rich', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

"""Every command at a small size, in this process or in one of its own, for tests of what commands write and print."""

import io
import os
import pathlib
import subprocess
import sys

import jax
import pytest
from study_files import TOML

import jaxsim

SIZE = ["--data", "unit-sphere", "--n", "3", "-T", "3", "-d", "4"]
PLANE = TOML.replace('law = "sphere"\nradius = [0.1, 8]', 'law = "random-plane"\nresolution = [4, 5]').replace(
    "[stop]\nlanes = 60", "[stop]\nlanes = 20"
)
# Commands that write results: name to arguments, in a folder that `prepare` made. All end with exit code 0.
WRITING = {
    "run": ["run", *SIZE, "--lanes", "8", "--steps", "20", "--rule", "ngd=0.1", "--full"],
    "head": ["head", "--data", "split.npz", "--rule", "gd=1", "--lanes", "2", "--steps", "20"],
    "basin": ["basin", *SIZE, "--plane", "random", "--resolution", "4", "--steps", "20", "--versus", "gd=1"],
    "replay": ["replay", "made", "--lane", "3"],
    "reproduce": ["reproduce", "losses", "--quick"],
    "report": ["report", "made"],
    "plot": ["study", "plot", "plane", "--to", "drawn.png", "--against", "seed"],
    "map": ["study", "map", "plane", "--to", "map.png"],
    "export": ["study", "export", "plane", "--to", "lanes.parquet"],
    "export-nc": ["study", "export", "plane", "--to", "cells.nc"],
}
# Commands that only say something.
SAYING = {
    "geometry": ["geometry", *SIZE, "--steps", "20", "--lanes", "1"],
    "list": ["reproduce", "list"],
    "status": ["study", "status", "plane"],
    "verify": ["study", "verify", "plane", "--sample", "1"],
    "study": ["study", "run", "plane.toml"],
    "example": ["study", "example"],
    "version": ["--version"],
    "help": ["run", "--help"],
}


class Said:
    """What a command came to."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


def invoke(*arguments, cwd, out=None, err=None, columns=200):
    """Run a command in this process, to keep it quick; streams may be given."""
    from jaxsim import cli

    kept = [io.StringIO(), io.StringIO()]  # what was said, where no other stream was given
    streams = [own if given is None else given for own, given in zip(kept, (out, err), strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setenv("COLUMNS", str(columns))
        patch.setattr(sys, "argv", ["jaxsim", *map(str, arguments)])
        patch.setattr("jax.config.update", lambda *_: None)  # this process has its configuration already
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    return Said(stop.value.code or 0, *(stream.getvalue() for stream in kept))


def shell(*arguments, cwd, **options):
    """Run a command in a process of its own."""
    environment = os.environ | {"COLUMNS": "200"} | options.pop("env", {})
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(
        [sys.executable, "-m", "jaxsim", *map(str, arguments)], cwd=cwd, env=environment, timeout=600, **given
    )


def prepare(place: pathlib.Path) -> pathlib.Path:
    """What the commands read: a run's folder, a finished study, data."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "plane.toml").write_text(PLANE)
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=3, d=4)
    jaxsim.data.save(problem, place / "split.npz")
    assert invoke(*WRITING["run"], "--out", "made", cwd=place).code == 0
    said = invoke("study", "run", "plane.toml", cwd=place)
    assert said.code == 0, said.err
    return place


def tree(place: pathlib.Path) -> dict[str, bytes | None]:
    """Every file's content and every folder, by name; not locks and databases, which are touched by reading."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(place.rglob("*"))
        if "sqlite" not in path.name and path.name != "lock"
    }

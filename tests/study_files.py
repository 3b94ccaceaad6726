"""Small studies for the tests."""

import contextlib
import hashlib
import io
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jaxsim.study
from jaxsim import cli
from jaxsim.analysis import VERDICTS
from jaxsim.study import engines
from jaxsim.study.shards import Shard

SPHERE = {"family": "unit-sphere", "n": 3, "T": 4, "d": 5}
LAW = {"law": "sphere", "radius": [0.1, 8.0]}
NGD = {"name": "ngd", "eta": [0.1, 0.2]}
TOML = """
seed = 3
steps = 60
shard = 20
dtype = "float32"
[[problem]]
family = "unit-sphere"
n = 3
T = 4
d = 5
[[init]]
law = "sphere"
radius = [0.1, 8]
[[rule]]
name = "ngd"
eta = [0.1, 0.2]
[stop]
lanes = 60
"""


def small(**changes):
    """Four cells; one program to compile."""
    content = dict(seed=3, steps=60, shard=20, dtype="float32", problem=[SPHERE], init=[LAW], rule=[NGD])
    return jaxsim.study.build(**content | {"stop": {"lanes": 60}} | changes)


def contents(folder):
    """Every shard's bytes by name, and what the manifest says of it."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("shards/*/*")}
    records = jaxsim.open_study(folder).records.values()
    return files, [(r.cell, r.shard, r.state, r.file, r.bytes, r.sha256, r.counts) for r in records]


class Fake(engines.Engine):
    """An engine without simulation: of lane i of a shard nothing is known but its verdict, global for so many."""

    def __init__(self, study, files):
        self.study, self.tasks = study, []

    def room(self):
        return 3 - len(self.tasks)

    def trouble(self):
        return None

    def submit(self, task):
        self.tasks.append(task)

    def outcomes(self, wait):
        task, size = self.tasks.pop(0), self.study.shard
        count = (7 * task.cell + 3 * task.shard) % size
        verdicts = pa.DictionaryArray.from_arrays(np.repeat(np.int8([0, 1]), [count, size - count]), list(VERDICTS))
        sink = io.BytesIO()
        pq.write_table(pa.table({"verdict": verdicts}), sink)
        content = sink.getvalue()
        made = Shard(content, hashlib.sha256(content).hexdigest(), (count, size - count, 0, 0, 0, 0))
        return [engines.Outcome(task, made)]

    def close(self):
        pass


def jaxsim_command(*arguments, cwd):
    """Exit code and everything that a command prints, in this process to keep it quick."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", "300")
        patch.setattr(sys, "argv", ["jaxsim", *map(str, arguments)])
        patch.setattr("os._exit", sys.exit)
        patch.setattr("jax.config.update", lambda *_: None)  # this process has its configuration already
        with pytest.raises(SystemExit) as stop:
            cli.main()
    return stop.value.code or 0, said.getvalue()

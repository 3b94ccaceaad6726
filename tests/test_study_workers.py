"""Studies on Dask workers and on processes of jax.distributed: the same tables, whatever dies or hangs."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from study_files import SPHERE, TOML, contents, small

from jaxsim import study as studies
from jaxsim.study import conduct
from jaxsim.study.dask import Spread
from jaxsim.study.engines import Task

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # sockets of workers that we kill
]
STUDY = dict(stop={"half_width": 0.1, "max_lanes": 200}, problem=[SPHERE | {"seeds": [0, 1]}])


@pytest.fixture(scope="module", autouse=True)
def programs(tmp_path_factory):
    """Compiled programs shared by the processes that these tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", os.fspath(tmp_path_factory.mktemp("programs")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The study made in this process."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    studies.run(small(**STUDY), folder)
    return folder


class Observed(Spread):
    """An engine that lets the test strike a worker at work."""

    strike = None

    def outcomes(self, wait):
        found = super().outcomes(wait)
        if self.strike is not None and (busy := [worker for key, (worker, _) in self._started.items()]):
            pids = self._client.run(os.getpid)
            os.kill(pids[busy[0]], self.strike)
            type(self).strike = None
        return found


@pytest.mark.parametrize(
    ("blow", "timeout"), [(signal.SIGKILL, 600.0), pytest.param(signal.SIGSTOP, 12.0, marks=pytest.mark.slow)]
)
def test_a_worker_that_dies_or_hangs_is_replaced(whole, tmp_path, blow, timeout):
    engine = type("Struck", (Observed,), {"strike": blow})
    found = studies.run(small(**STUDY), tmp_path / "s", engine=lambda s, f: engine(s, f, workers=2, timeout=timeout))
    assert engine.strike is None and found.retries >= 1 and not found.failed
    assert contents(tmp_path / "s") == contents(whole)
    attempts = [record.attempts for record in studies.open_study(tmp_path / "s").records.values()]
    assert sum(attempts) - len(attempts) == found.retries


def test_errors_on_workers_are_those_of_this_process(tmp_path):
    """A decoder whose scores leave the range of float32 is refused where the shard is computed."""
    study = small(problem=[{"family": "signal-noise", "n": 4, "T": 3, "d": 8, "signal": 1000.0}], stop={"lanes": 20})
    here = studies.run(study, tmp_path / "here").failed
    engine = Spread(study, {}, workers=1)
    try:
        engine.submit(Task(0, 0))
        outcomes = []
        deadline = time.monotonic() + 120
        while not outcomes and time.monotonic() < deadline:
            outcomes = engine.outcomes(1.0)
    finally:
        engine.close()
    assert outcomes[0].result is None and "decoder: token scores reach" in outcomes[0].message
    assert outcomes[0].message in here.values() and len(here) == 4


def test_a_scheduler_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="no Dask scheduler answers at tcp://127.0.0.1:9;"):
        Spread(small(), {}, address="tcp://127.0.0.1:9", patience=1.0)


def test_a_scheduler_without_workers_is_told_and_waited_for(whole, tmp_path, monkeypatch):
    import distributed

    monkeypatch.setattr(conduct, "PATIENCE", 0.3)
    said = []
    with distributed.LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None) as cluster:

        def report(line):
            said.append(line)
            cluster.scale(1)

        found = studies.run(
            small(**STUDY),
            tmp_path / "s",
            engine=lambda s, f: Spread(s, f, address=cluster.scheduler_address),
            report=report,
        )
    assert said == ["waiting: the Dask scheduler has no worker that answers"] and not found.failed
    assert contents(tmp_path / "s") == contents(whole)


COMMAND = [sys.executable, "-m", "jaxsim", "study", "run", "s.toml", "--cores", "1", "--out"]
TEXT = TOML.replace("d = 5", "d = 5\nseeds = [0, 1]").replace("lanes = 60", "half_width = 0.1\nmax_lanes = 200")


def test_two_jax_processes_give_the_same_tables(whole, tmp_path):
    (tmp_path / "s.toml").write_text(TEXT)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    pair = [
        subprocess.Popen([*COMMAND, "pair", "--distributed", f"localhost:{port},2,{k}"], cwd=tmp_path, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for k in (0, 1)
    ]  # fmt: skip
    for process in pair:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        assert " shards made" in out
    assert contents(tmp_path / "pair") == contents(whole)


@pytest.mark.slow
def test_an_existing_scheduler_gives_the_same_tables(whole, tmp_path):
    import distributed

    (tmp_path / "s.toml").write_text(TEXT)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        done = subprocess.run(
            [*COMMAND, "there", "--workers", cluster.scheduler_address], cwd=tmp_path, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "there") == contents(whole)

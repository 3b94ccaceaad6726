"""Studies on Dask workers and on processes of jax.distributed: the same tables, whatever dies or hangs."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from study_files import SPHERE, TOML, Fake, contents, small

from jaxsim import study as studies
from jaxsim.study import engines, running
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


@pytest.mark.parametrize("protocol", ["tcp://", "inproc://"])
def test_a_scheduler_that_ends_at_work_is_told_as_what_it_is(tmp_path, protocol):
    import distributed

    with distributed.LocalCluster(
        n_workers=1, processes=False, protocol=protocol, dashboard_address=None, silence_logs=50
    ) as cluster:
        address = cluster.scheduler_address

        def strike(state):
            if state.new_shards == 3:
                cluster.close()

        with pytest.raises(engines.Lost, match=f"the Dask scheduler at {address} "):
            studies.run(
                small(stop={"lanes": 20000}), tmp_path / "s", progress=strike,
                engine=lambda s, f: Spread(s, f, address=address, patience=2.0),
            )  # fmt: skip
    found = studies.open_study(tmp_path / "s")
    assert len(found.records) >= 3 and not found.damaged and not found.failed


def test_workers_that_are_not_there_leave_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="no Dask scheduler answers"):
        studies.run(
            small(), tmp_path / "s", engine=lambda s, f: Spread(s, f, address="tcp://127.0.0.1:9", patience=0.5)
        )
    assert not list(tmp_path.iterdir())
    studies.run(small(stop={"lanes": 20}), tmp_path / "s", engine=Fake)
    before = contents(tmp_path / "s"), (tmp_path / "s" / "lock").read_bytes()
    with pytest.raises(ValueError, match="no luck"):
        studies.run(small(), tmp_path / "s", engine=unlucky)
    assert (contents(tmp_path / "s"), (tmp_path / "s" / "lock").read_bytes()) == before
    assert len(studies.open_study(tmp_path / "s").sessions) == 1


def unlucky(study, files):
    raise ValueError("no luck")


@pytest.mark.parametrize("address", ["tls://127.0.0.1:9", "foo://127.0.0.1:9", "tcp://127.0.0.1", "tcp://", "tls://"])
def test_an_address_that_cannot_be_used_is_one_line(address):
    with pytest.raises(ValueError, match="^workers: no Dask scheduler answers at [^\n]*$"):
        Spread(small(), {}, address=address, patience=1.0)


def test_a_scheduler_without_workers_is_told_and_waited_for(whole, tmp_path, monkeypatch):
    import distributed

    monkeypatch.setattr(running, "PATIENCE", 0.3)
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


def test_a_process_whose_peers_never_come_makes_its_share(tmp_path):
    (tmp_path / "s.toml").write_text(TEXT)
    done = subprocess.run(
        [*COMMAND, "alone", "--distributed", f"localhost:{free_port()},2,1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0 and " shards made" in done.stdout, done.stderr
    assert {record.cell % 2 for record in studies.open_study(tmp_path / "alone").records.values()} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["named", "auto"])
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_whose_peer_is_killed_ends_well(tmp_path, killed, how):
    """Also where the one that is killed is the first, at which processes of jax.distributed meet."""
    (tmp_path / "s.toml").write_text(TOML.replace("lanes = 60", "lanes = 4000"))
    pair = pair_of_processes(tmp_path, how)
    while len(list_of_shards(tmp_path)) < 20 or len(list(tmp_path.glob("pair/lock-*"))) < 2:
        assert all(process.poll() is None for process in pair)
        time.sleep(0.01)
    pair[killed].kill()
    pair[killed].communicate()
    out, err = pair[1 - killed].communicate(timeout=200)
    assert pair[1 - killed].returncode == 0 and "400 shards made" in out, err
    assert "Check failure" not in err and not studies.open_study(tmp_path / "pair").damaged


def list_of_shards(tmp_path):
    return list(tmp_path.glob("pair/shards/*/*.parquet"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def pair_of_processes(tmp_path, how):
    """Named on the command line, or found by JAX in what SLURM would say."""
    port = free_port()
    slurm = {"SLURM_JOB_ID": str(port), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}
    return [
        subprocess.Popen(
            [*COMMAND, "pair", "--distributed", f"localhost:{port},2,{k}" if how == "named" else "auto"],
            cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | (slurm | {"SLURM_PROCID": str(k)} if how == "auto" else {}),
        )
        for k in (0, 1)
    ]  # fmt: skip


@pytest.mark.slow
def test_a_scheduler_that_is_killed_at_work_is_told_as_what_it_is(tmp_path):
    (tmp_path / "s.toml").write_text(TOML.replace("lanes = 60", "lanes = 20000"))
    port = free_port()
    here = {"cwd": tmp_path, "stderr": subprocess.DEVNULL}
    options = ["--no-dashboard", "--host", "127.0.0.1"]
    scheduler = subprocess.Popen([sys.executable, "-m", "dask", "scheduler", "--port", str(port), *options], **here)
    address = f"tcp://127.0.0.1:{port}"
    worker = subprocess.Popen([sys.executable, "-m", "dask", "worker", address, "--nthreads", "1", *options], **here)
    try:
        process = subprocess.Popen(
            [*COMMAND, "out", "--workers", address],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        while len(list(tmp_path.glob("out/shards/*/*.parquet"))) < 5:
            assert process.poll() is None
            time.sleep(0.01)
        scheduler.kill()
        out, err = process.communicate(timeout=200)
    finally:
        for other in (worker, scheduler):
            other.kill()
            other.wait()
    assert process.returncode == 1 and "could not write" not in err, err
    assert f"error the Dask scheduler at {address} " in err and "the same command goes on" in err
    assert not studies.open_study(tmp_path / "out").damaged


@pytest.fixture
def certificates(tmp_path):
    """Of an authority made here, and of one node that it vouches for; and of another authority."""
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made with openssl")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=node", "-keyout", "node.key", "-out", "node.csr")
    openssl("x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-out", "node.pem")  # fmt: skip
    return tmp_path


@pytest.mark.slow
def test_a_scheduler_with_tls_is_reached_by_the_configuration_of_dask(whole, certificates):
    import distributed

    place = certificates
    (place / "s.toml").write_text(TEXT)
    node = {"cert": "node.pem", "key": "node.key"}
    for authority in ("ca", "other"):
        tls = {"ca-file": f"{authority}.pem", "client": node, "worker": node, "scheduler": node}
        content = {"distributed": {"comm": {"require-encryption": True, "tls": tls}}}
        (place / f"{authority}.yaml").write_text(json.dumps(content))  # JSON is YAML
    own = {f"tls_{role}_{what}": os.fspath(place / file) for role in ("client", "worker", "scheduler")
           for what, file in node.items()}  # fmt: skip
    security = distributed.Security(tls_ca_file=os.fspath(place / "ca.pem"), require_encryption=True, **own)

    def run(out, workers, **variables):
        return subprocess.run(
            [*COMMAND, out, "--workers", workers], cwd=place, capture_output=True, text=True,
            env=os.environ | variables,
        )  # fmt: skip

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None, security=security, silence_logs=50
    ) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        done = run("there", address, DASK_CONFIG="ca.yaml")
        assert done.returncode == 0, done.stderr
        for wrong in ({}, {"DASK_CONFIG": "other.yaml"}):
            refused = run("refused", address, **wrong)
            assert refused.returncode == 2 and f"no Dask scheduler answers at {address}" in refused.stderr
            assert len(refused.stderr.splitlines()) == 1 and not (place / "refused").exists()
        engine = Spread(small(**STUDY), {}, address=address, security=security)
        engine.close()
    assert contents(place / "there") == contents(whole)
    own_cluster = run("own", "dask", DASK_CONFIG="ca.yaml")
    assert own_cluster.returncode == 0, own_cluster.stderr
    assert contents(place / "own") == contents(whole)


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

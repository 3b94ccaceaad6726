"""Kills and faults by the dozen: with the thirty of test_study_crash, sixty SIGKILLs; and an error at every call."""

import errno
import os
import pathlib
import random
import signal
import time

import pytest
from study_files import Fake, contents, small
from test_study_crash import LARGER, finish, start

import jaxsim
from jaxsim import study as studies
from jaxsim.study import audit, folder, manifest


def strike(process, place, rng, pause):
    """Kill it at work, after one more shard and a moment, or while it starts; whether it was still there."""
    before, working = len(list(place.glob("out/shards/*/*.parquet"))), rng.random() < 0.7
    while working and process.poll() is None and len(list(place.glob("out/shards/*/*.parquet"))) == before:
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.3 if working else pause))
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("dask", 16), ("pair", 14)])
def test_thirty_sigkills_of_processes_that_share(tmp_path, kind, kills):
    """No shard is lost, none is half there, and the tables are those of a study that ran through."""
    rng, text = random.Random(kind), LARGER.replace("0.05", "0.03")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    finish(start(whole, text=text))
    of_pair = [["--distributed", f"localhost:1,2,{k}"] for k in (0, 1)]
    options = of_pair if kind == "pair" else [["--workers", "dask"]]
    struck = 0
    for _ in range(kills // len(options)):
        processes = [start(cut, *more, text=text) for more in options]
        struck += sum(strike(process, cut, rng, 6) for process in rng.sample(processes, len(processes)))
        files = {path.name for path in cut.glob("out/shards/*/*.parquet")}
        records = jaxsim.open_study(cut / "out").records.values() if list(cut.glob("out/manifest*")) else ()
        assert {str(record.file).split("/")[-1] for record in records} <= files
    assert struck >= 0.6 * kills  # the others came when nothing was left to do
    for process in [start(cut, *more, text=text) for more in options]:
        finish(process)
    finish(start(cut, text=text))  # alone, and so with the right to remove what was half written
    assert contents(cut / "out") == contents(whole / "out")
    assert not list(cut.rglob("*.part")) and audit.verify(cut / "out", sample=0).damaged == {}
    print(f"{kind}: {len(contents(cut / 'out')[1])} shards; {struck} of {kills} kills struck")


FAULTS = {
    "fsync": (os, "fsync"), "rename": (os, "replace"), "manifest": (manifest.Manifest, "record"),
    "look": (folder.Hold, "check"), "folder": (pathlib.Path, "mkdir"), "session": (manifest.Manifest, "begin"),
}  # fmt: skip


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("kind", FAULTS)
def test_an_error_of_the_file_system_at_any_call_loses_nothing(tmp_path, kind, lasting):
    """The k-th call fails, or every one from there on; then the same study goes on."""
    owner, name = FAULTS[kind]
    original, errors = getattr(owner, name), 0
    studies.run(small(), tmp_path / "whole", engine=Fake)
    for k in range(100):
        calls = []

        def failing(*arguments, k=k, calls=calls, **more):
            calls.append(arguments)
            if len(calls) == k + 1 or (lasting and len(calls) > k):
                raise OSError(errno.EIO, os.strerror(errno.EIO), "somewhere")
            return original(*arguments, **more)

        place = tmp_path / f"{k}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, failing)
            try:
                studies.run(small(), place, engine=Fake)
            except (OSError, ValueError) as error:
                assert "Input/output error" in str(error)
                errors += 1
        had = len(jaxsim.open_study(place).records) if list(place.glob("manifest*")) else 0
        assert not list(place.rglob("*.part"))
        assert studies.run(small(), place, engine=Fake).new_shards == 12 - had
        assert contents(place) == contents(tmp_path / "whole")
        if len(calls) <= k:
            break
    assert errors >= 1
    print(f"{kind}: {errors} errors")

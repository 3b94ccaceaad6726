"""What a study survives: SIGKILL at any moment, Ctrl-C, a second process, a full disk, a read-only folder."""

import errno
import fcntl
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from study_files import TOML, Fake, contents, jaxsim_command, small

import jaxsim
from jaxsim import study as studies
from jaxsim.study import audit, folder, manifest
from jaxsim.study.engines import AHEAD

# The command line, in a process that writes down each shard when it has computed it.
LOGGED = """
import os, sys
import jaxsim.study.shards as shards
compute = shards.Workshop.shards
def logged(self, tasks):
    for (cell, index), made in zip(tasks, compute(self, tasks)):
        with open("computed.log", "a") as file:
            file.write(f"{os.getpid()} {cell} {index}\\n")
        yield made
shards.Workshop.shards = logged
sys.argv = ["jaxsim", *sys.argv[1:]]
from jaxsim.cli import main
main()
"""
LARGER = TOML.replace("lanes = 60", "half_width = 0.05").replace("[0.1, 8]", "[0.1, 4, 8, 16]")


def start(tmp_path, *options, text=TOML, **how):
    (tmp_path / "s.toml").write_text(text)
    programs = ["--cache", os.fspath(tmp_path.parent / "programs")]  # of all tests of a session
    command = [sys.executable, "-c", LOGGED, "study", "run", "s.toml", "--out", "out", "--cores", "2", *programs]
    return subprocess.Popen(
        [*command, *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"COLUMNS": "200"}, **how,
    )  # fmt: skip


def finish(process, code=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out + err


def wait_for_shards(tmp_path, count):
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("out/shards/*/*.parquet"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def killed_again_and_again(tmp_path, kills):
    """The study interrupted by SIGKILL at random moments, and resumed until it is done."""
    rng = random.Random(kills)
    whole = tmp_path / "whole"
    whole.mkdir()
    finish(start(whole, text=LARGER))
    cut = tmp_path / "cut"
    cut.mkdir()
    total, struck = len(contents(whole / "out")[1]), 0
    for _ in range(kills):
        process = start(cut, text=LARGER)
        if rng.random() < 0.7:  # at work rather than at the start
            log, before = cut / "computed.log", 0
            before = len(log.read_text().splitlines()) if log.exists() else 0
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                if log.exists() and len(log.read_text().splitlines()) > before:
                    break
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.12))
        else:
            time.sleep(rng.uniform(0.2, 3))
        process.kill()
        process.communicate()
        struck += process.returncode == -signal.SIGKILL
    assert struck >= 0.6 * kills  # the others came when nothing was left to do
    finish(start(cut, text=LARGER))
    assert contents(cut / "out") == contents(whole / "out")
    for where in (whole, cut):
        where.joinpath("t.parquet").unlink(missing_ok=True)
        audit.export(where / "out", where / "t.parquet")
    assert (whole / "t.parquet").read_bytes() == (cut / "t.parquet").read_bytes()
    assert not list(cut.rglob("*.part"))
    lines = [tuple(line.split()) for line in (cut / "computed.log").read_text().splitlines()]
    assert len(set(lines)) == len(lines)  # no process computes anything twice
    again = len(lines) - total
    in_flight = 1 + AHEAD  # computed, and waiting to be written when the process was killed
    sessions = len({line[0] for line in lines})
    assert 0 <= again <= in_flight * (sessions - 1)
    print(f"{total} shards; {struck} of {kills} kills struck, {sessions} sessions, {again} shards made again")


def test_sigkill_at_random_moments(tmp_path):
    killed_again_and_again(tmp_path, 1)


@pytest.mark.slow
def test_thirty_sigkills(tmp_path):
    killed_again_and_again(tmp_path, 30)


@pytest.mark.slow
def test_ctrl_c_stops_within_two_seconds_and_the_second_process_says_who_works(tmp_path):
    long = TOML.replace("lanes = 60", "lanes = 400000").replace("steps = 60", "steps = 2000")
    process = start(tmp_path, text=long, start_new_session=True)
    wait_for_shards(tmp_path, 3)
    other = start(tmp_path, text=long)
    said = finish(other, 3)
    assert f"out is in use by process {process.pid} on " in said
    status = subprocess.run(
        [sys.executable, "-m", "jaxsim", "study", "status", "out"], cwd=tmp_path, capture_output=True, text=True
    )
    assert status.returncode == 0 and f"in use by process {process.pid}" in " ".join(status.stdout.split())
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    said = finish(process, 130)
    assert time.monotonic() - began < 2
    assert "; the same command goes on" in said
    files, before = contents(tmp_path / "out")  # the last file may have come too late for the manifest
    assert len(before) >= 3
    again = start(tmp_path, text=long, start_new_session=True)
    wait_for_shards(tmp_path, len(files) + 1)
    os.kill(again.pid, signal.SIGTERM)  # as a batch system does
    finish(again, 130)
    assert contents(tmp_path / "out")[1][: len(before)] == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of half a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting needs privileges; the disk-full path is also tested without")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.slow
def test_a_full_disk_is_told_and_what_is_complete_stays(tmp_path, small_disk):
    text = TOML.replace("lanes = 60", "lanes = 1200")
    (tmp_path / "out").symlink_to(small_disk)
    said = finish(start(tmp_path, text=text), 1)
    assert "error could not write" in said and ("No space left" in said or "disk is full" in said or "full" in said)
    assert "What is complete is safe" in said
    reader = jaxsim.open_study(small_disk)
    done = reader.counts.sum()
    assert 0 < done < 4800 and reader.table().count_rows() == done
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert "shards made" in finish(start(tmp_path, text=text))
    reader = jaxsim.open_study(small_disk)
    assert reader.table().count_rows() == reader.counts.sum() == 4800 and reader.done.all()


def test_a_failed_write_leaves_the_manifest_right(tmp_path, monkeypatch):
    """The same without a small disk: the fifth file cannot be written."""
    calls, write = [], folder.write_durably

    def full(path, content):
        calls.append(path)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        write(path, content)

    monkeypatch.setattr(folder, "write_durably", full)
    with pytest.raises(OSError, match="No space left"):
        studies.run(small(), tmp_path / "s")
    assert jaxsim.open_study(tmp_path / "s").table().count_rows() == 80
    assert studies.run(small(), tmp_path / "s").new_shards == 8


def test_half_written_files_are_removed_on_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error") as error:
        folder.write_durably(tmp_path / "a.parquet", b"content")
    assert str(error.value.filename).endswith("a.parquet") and not list(tmp_path.iterdir())


def test_a_read_only_folder_is_told_and_can_be_read(tmp_path):
    studies.run(small(stop={"lanes": 20}), tmp_path / "out")
    bound = subprocess.run(["mount", "--bind", tmp_path / "out", tmp_path / "out"], capture_output=True)
    if bound.returncode:
        pytest.skip("mounting needs privileges")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path / "out"], check=True)
        said = finish(start(tmp_path), 1)
        assert "error could not write out/lock: Read-only file system" in said
        assert jaxsim.open_study(tmp_path / "out").table().count_rows() == 80
    finally:
        subprocess.run(["umount", "-l", tmp_path / "out"], check=True)


def test_a_manifest_of_a_newer_version_is_refused(tmp_path):
    studies.run(small(stop={"lanes": 20}), tmp_path / "out")
    base = sqlite3.connect(manifest.manifest_of(tmp_path / "out"))
    with base:
        base.execute("UPDATE meta SET value=? WHERE name='format'", (str(manifest.FORMAT + 1),))
    base.close()
    before = contents_of_files(tmp_path / "out")
    said = finish(start(tmp_path), 2)
    assert f"has format {manifest.FORMAT + 1}; this version of jaxsim reads up to {manifest.FORMAT}" in said
    assert contents_of_files(tmp_path / "out") == before


def contents_of_files(place: pathlib.Path):
    return {p.name: p.read_bytes() for p in place.rglob("*.parquet")}


def test_a_manifest_cut_off_at_its_birth_is_begun_again(tmp_path):
    (tmp_path / "out").mkdir()
    sqlite3.connect(manifest.manifest_of(tmp_path / "out")).close()
    manifest.manifest_of(tmp_path / "out").touch()
    with pytest.raises(ValueError, match="cut off before it was begun"):
        jaxsim.open_study(tmp_path / "out")
    assert studies.run(small(), tmp_path / "out").new_shards == 12


@pytest.mark.parametrize("text", [b"\xff\xfe", b"[]", b'{"pid": 1, "host": "h", "since": 1e300}', b"[" * 5000])
def test_a_lock_with_strange_text_is_held_all_the_same(tmp_path, text):
    (tmp_path / "s.toml").write_text(TOML)
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(text)
        lock.flush()
        assert folder.holder(tmp_path / "out") == "another process"
        with pytest.raises(folder.Held, match="is in use by another process"):
            studies.run(small(), tmp_path / "out", engine=Fake)
        code, said = jaxsim_command("study", "run", "s.toml", "--out", "out", cwd=tmp_path)
        assert code == 3 and "in use by another process" in said


def test_the_lock_ends_with_the_process(tmp_path):
    with folder.held(tmp_path):
        assert f"process {os.getpid()} on" in str(folder.holder(tmp_path))
        with pytest.raises(folder.Held, match="is in use by process"), folder.held(tmp_path, 0, 2):
            pass
    assert folder.holder(tmp_path) is None
    with folder.held(tmp_path, 0, 2), folder.held(tmp_path, 1, 2):
        with pytest.raises(folder.Held), folder.held(tmp_path, 1, 2):
            pass
        with pytest.raises(folder.Held), folder.held(tmp_path):
            pass

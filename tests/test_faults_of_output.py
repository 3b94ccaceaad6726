"""Every write of every command fails once: one line, exit code 1, and nothing half written."""

import builtins
import errno
import io
import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import WRITING, invoke, tree

from jaxsim import _files, storage
from jaxsim.study import audit


class Raw(io.FileIO):
    """A file whose writes are counted."""

    def __init__(self, path, mode, tick):
        tick()
        super().__init__(path, mode)
        self.tick = tick

    def write(self, data):
        self.tick()
        return super().write(data)


class Fault:
    """Counts everything that a process asks of the disk below a folder, and fails once."""

    def __init__(self, place, at=None):
        self.place, self.at, self.count = os.path.realpath(place), at, 0

    def tick(self):
        self.count += 1
        if self.count - 1 == self.at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def below(self, path):
        return isinstance(path, str | os.PathLike) and os.path.realpath(path).startswith(self.place)

    def install(self, patch):
        opened, fsync, replace = builtins.open, os.fsync, os.replace

        def open_(path, mode="r", *rest, **options):
            if not self.below(path) or not set(mode) & set("wxa"):
                return opened(path, mode, *rest, **options)
            file = io.BufferedWriter(Raw(path, mode.replace("t", "").replace("b", ""), self.tick))
            return file if "b" in mode else io.TextIOWrapper(file, **options)

        patch.setattr(builtins, "open", open_)
        patch.setattr(io, "open", open_)
        patch.setattr(os, "fsync", lambda file: (self.tick(), fsync(file))[1])
        patch.setattr(os, "replace", lambda source, target: (self.tick(), replace(source, target))[1])
        return self


def under(fault, name, place):
    with pytest.MonkeyPatch.context() as patch:
        fault.install(patch)
        return invoke(*WRITING[name], cwd=place)


def told(said):
    """One line says what could not be written."""
    assert said.code == 1, said.err
    lines = [line for line in said.err.splitlines() if not line.startswith("running")]
    assert len(lines) == 1 and lines[0].startswith("error could not write"), said.err
    return lines[0]


def every_write_fails_once(fresh, name, step):
    place = fresh()
    before, counted = tree(place), Fault(place)
    assert under(counted, name, place).code == 0
    made = set(tree(place)) - set(before)
    files = len([m for m in made if "." in m])
    assert made and counted.count >= (3 if name == "export-nc" else 5) * files  # a library in C writes the one
    place = fresh()
    for at in range(0, counted.count, step):
        assert "No space left on device" in told(under(Fault(place, at), name, place)), at
        assert tree(place) == before, at


@pytest.mark.parametrize(("name", "step"), [("run", 13), ("export", 1)])
def test_some_writes_fail_once(fresh, name, step):
    every_write_fails_once(fresh, name, step)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITING)
def test_every_write_fails_once(fresh, name):
    every_write_fails_once(fresh, name, 1)


def limited(name, place, limit):
    """The command in a process whose files may have so many bytes: also writers outside Python fail there."""
    return subprocess.run(
        [sys.executable, "-m", "jaxsim", *WRITING[name]], cwd=place, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip


SIZES = [("run", 3000), ("plot", 5000)]
MORE = [(name, limit) for name in WRITING for limit in (100, 600, 3000, 20_000) if (name, limit) not in SIZES]


@pytest.mark.parametrize(("name", "limit"), [*SIZES, *(pytest.param(*each, marks=pytest.mark.slow) for each in MORE)])
def test_files_that_cannot_grow(fresh, name, limit):
    place = fresh()
    before = tree(place)
    done = limited(name, place, limit)
    if done.returncode == 0:  # all its files are smaller
        assert max(len(data or b"") for data in tree(place).values()) <= max(
            limit, *map(len, filter(None, before.values()))
        )
        return
    unread = "cannot be read" in done.stderr  # SQLite needs room to read a manifest
    assert done.returncode == (2 if unread else 1) and "Traceback" not in done.stderr, done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert tree(place) == before


@pytest.mark.slow
def test_a_disk_that_fills_up_at_any_point(fresh, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting needs privileges; the same is tested without")
    try:
        place = fresh()
        for kilobytes in range(8, 200, 12):
            subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)
            said = invoke(*WRITING["run"], "--out", disk / "res", cwd=place)
            if said.code == 0:
                break
            assert "No space left on device" in told(said) and os.listdir(disk) == []
        assert said.code == 0 and kilobytes > 20 and (disk / "res" / "figure.png").exists()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_what_was_there_stays(fresh, monkeypatch):
    """A page or picture that cannot be replaced is the old one."""
    place = fresh()
    for name, target in (("report", "made/report.html"), ("plot", "drawn.png")):
        (place / target).write_bytes(b"precious")
        assert under(Fault(place, 2), name, place).code == 1
        assert (place / target).read_bytes() == b"precious"


def test_a_folder_that_was_there_stays_empty(fresh):
    place = fresh()
    (place / "mine").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        Fault(place, 20).install(patch)
        said = invoke(*WRITING["run"], "--out", "mine", cwd=place)
    assert told(said) and list((place / "mine").iterdir()) == []


def test_folders_made_on_the_way_go_too(fresh):
    place = fresh()
    before = tree(place)
    with pytest.MonkeyPatch.context() as patch:
        Fault(place, 20).install(patch)
        assert invoke(*WRITING["run"], "--out", "a/b/c", cwd=place).code == 1
    assert tree(place) == before


class Broken(RuntimeError):
    pass


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_file_appears_whole_or_not_at_all(tmp_path, old):
    path = tmp_path / "a" / "b" / "file" if old is None else tmp_path / "file"
    if old:
        path.write_bytes(old)
    before = tree(tmp_path)
    with pytest.raises(Broken), _files.whole(path) as file:
        file.write(b"new")
        raise Broken
    assert tree(tmp_path) == before
    _files.write_durably(path, b"new")
    assert path.read_bytes() == b"new" and len(list(path.parent.iterdir())) == 1


def test_a_name_or_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(Broken), _files.whole_at(tmp_path / "out.zarr") as part:
        part.mkdir()
        (part / "chunk").write_bytes(b"1")
        raise Broken
    assert list(tmp_path.iterdir()) == []
    with _files.whole_at(tmp_path / "out.zarr") as part:
        part.mkdir()
        (part / "chunk").write_bytes(b"1")
    assert tree(tmp_path) == {"out.zarr": None, "out.zarr/chunk": b"1"}


def test_files_together_stay_or_go_together(tmp_path):
    (tmp_path / "notes").write_bytes(b"a user's")
    _files.write_durably(tmp_path / "old", b"old")
    with pytest.raises(Broken), _files.together():
        _files.write_durably(tmp_path / "one", b"1")
        _files.write_durably(tmp_path / "old", b"replaced, which cannot be undone")
        (tmp_path / "more notes").write_bytes(b"a user's")
        raise Broken
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "more notes", "old"}
    with _files.together():
        _files.write_durably(tmp_path / "one", b"1")
    assert (tmp_path / "one").exists()


def test_a_table_of_lanes_that_cannot_be_written_is_not_there(tmp_path, problem):
    import pandas as pd

    for at in range(4):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="path: cannot write .*No space"):
            Fault(tmp_path, at).install(patch)
            with storage.lane_table(tmp_path / "lanes.parquet") as write:
                write(pd.DataFrame({"a": np.arange(10)}))
        assert list(tmp_path.iterdir()) == []


def test_zarr_is_whole_or_absent(fresh, monkeypatch):
    import xarray as xr

    place, write = fresh(), xr.Dataset.to_zarr

    def full(self, target, **options):
        write(self, target, **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = tree(place)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(xr.Dataset, "to_zarr", full)
        audit.export(place / "plane", place / "cells.zarr")
    assert tree(place) == before
    assert audit.export(place / "plane", place / "cells.zarr") == 2 and (place / "cells.zarr").is_dir()


def test_nothing_is_written_past_the_one_writer():
    """Every file of results goes through `jaxsim._files`; databases, locks and temporary copies are their own."""
    root = pathlib.Path(_files.__file__).parent
    ways = (".savefig(", ".to_parquet(", ".write_text(", ".write_bytes(", "savez", "np.save(", ".to_netcdf(",
            ".to_zarr(", "ParquetWriter(", ".rename(", "os.replace(", ".replace(path)")  # fmt: skip
    allowed = ("(file", "(part", "(buffer", "io.BytesIO")
    for path in root.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            for way in ways:
                if way in line and path.name != "_files.py":
                    assert any(a in line for a in allowed), f"{path.name}: {line}"


def test_what_can_be_made_again_is_removed_when_nobody_uses_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = _files.private_folder("programs")
    for name, days in (("old", 91), ("young", 89)):
        used = time.time() - 86_400 * days
        (place / name).write_bytes(b"")
        os.utime(place / name, (used, used))
    (place / "inside").mkdir()
    os.utime(place / "inside", (0, 0))
    assert _files.private_folder("programs") == place
    assert {path.name for path in place.iterdir()} == {"young", "inside"}

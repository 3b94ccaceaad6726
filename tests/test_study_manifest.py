"""Manifests that somebody or something has changed: each change is noticed, told with the file's name, and mended."""

import hashlib
import itertools
import json
import os
import pathlib
import shutil
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from study_files import Fake, contents, jaxsim_command, small

import jaxsim
from jaxsim import study as studies
from jaxsim.study import audit, manifest

OLD = (
    pathlib.Path(__file__).parent / "data" / "study-format-1"
)  # 2 shards per cell of small(), before rows had checksums
MANIFEST = "manifest-0000.sqlite"
NAME = "shards/0000/000001-000002.parquet"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "finished"
    studies.run(small(), folder)
    return folder


@pytest.fixture
def place(finished, tmp_path):
    """A study of which everything may be changed."""
    shutil.copytree(finished, tmp_path / "s")
    return tmp_path / "s"


def execute(place, statement, *values):
    with closing(sqlite3.connect(place / MANIFEST)) as base, base:
        return base.execute(statement, values).fetchall()


def test_counts_changed_by_hand_are_noticed_by_every_reader(finished, place):
    execute(place, "UPDATE shards SET counts='[0, 20, 0, 0, 0, 0]' WHERE cell=1 AND shard=2")
    reader = jaxsim.open_study(place)
    assert list(reader.damaged) == [NAME] and MANIFEST in reader.damaged[NAME]
    assert reader.counts.sum(1).tolist() == [60, 40, 60, 60]  # what is not known is not counted
    assert reader.done.tolist() == [True, False, True, True]
    with pytest.raises(ValueError, match=f"1 of 12 shards are damaged: {NAME}"):
        reader.table()
    for command in ("status", "verify"):
        code, said = jaxsim_command("study", command, place, cwd=place)
        assert code == 1 and NAME in said and MANIFEST in said
    said = []
    found = studies.run(small(), place, report=said.append)
    assert found.damaged == [NAME] and found.new_shards == 0 and NAME in said[0]
    assert studies.run(small(), place, repair=True).repaired == [NAME]
    assert contents(place) == contents(finished)
    assert audit.verify(place) == audit.AuditResult(12, 3, {}, [])


@pytest.mark.parametrize(
    ("column", "value"),
    [("state", "failed"), ("file", "shards/0000/000001-000001.parquet"), ("bytes", 17), ("sha256", "0" * 64),
     ("attempts", 2), ("seconds", 1.0), ("session", 7), ("message", "x"), ("counts", None), ("counts", b"\xff"),
     ("counts", "{}"), ("bytes", "many"), ("state", "\x1b[31m")],
)  # fmt: skip
def test_every_column_of_a_shard_is_guarded(place, column, value):
    execute(place, f"UPDATE shards SET {column}=? WHERE cell=1 AND shard=2", value)
    reader = jaxsim.open_study(place)
    assert list(reader.damaged) == [NAME] and not reader.failed


def test_a_shard_that_changes_its_number_is_damaged_there_and_missing_here(finished, place):
    execute(place, "UPDATE shards SET shard=66 WHERE cell=1 AND shard=2")
    reader = jaxsim.open_study(place)
    assert list(reader.damaged) == ["shards/0000/000001-000066.parquet"] and not reader.done[1]
    studies.run(small(), place, repair=True)
    assert contents(place) == contents(finished)


def test_counts_that_do_not_come_from_the_file_are_found_by_verify(finished, place):
    """Changed by someone who knows how rows are written."""
    record = jaxsim.open_study(place).records[1, 2]
    book = manifest.Manifest(place / MANIFEST)
    book.record(record._replace(counts=(0, 20, 0, 0, 0, 0)))
    book.close()
    assert not jaxsim.open_study(place).damaged
    code, said = jaxsim_command("study", "verify", place, "--sample", 0, cwd=place)
    assert code == 1 and f"damaged: {NAME} (the manifest counts" in said
    reader = jaxsim.open_study(place)
    assert list(reader.damaged) == [NAME] and reader.counts[1].sum() == 40
    assert list(audit.verify(place, sample=0).damaged) == [NAME]
    studies.run(small(), place, repair=True)
    assert contents(place) == contents(finished)


def test_other_tables_are_guarded_as_well(place):
    execute(place, "UPDATE sessions SET environment=replace(environment, 'cpu', 'gpu')")
    assert list(jaxsim.open_study(place).damaged) == [f"{MANIFEST}, session 1"]
    assert jaxsim_command("study", "status", place, cwd=place)[0] == 1
    assert jaxsim_command("report", place, cwd=place)[0] == 0
    studies.run(small(), place, repair=True)
    assert not jaxsim.open_study(place).damaged
    execute(place, "UPDATE cells SET rule='gd' WHERE cell=2")
    assert list(audit.verify(place, sample=0).damaged) == [f"{MANIFEST}, cell 2"]
    studies.run(small(), place)
    assert audit.verify(place, sample=0) == audit.AuditResult(12, 0, {}, [])
    execute(place, "UPDATE meta SET value=replace(value, '0.95', '0.55')")
    with pytest.raises(ValueError, match=rf"{MANIFEST}'.* 'study' is not as it was written"):
        jaxsim.open_study(place)


def test_a_study_of_the_first_format_opens_and_resumes(tmp_path):
    place = tmp_path / "s"
    shutil.copytree(OLD, place)
    before = contents(place)
    reader = jaxsim.open_study(place)
    assert reader.counts.sum(1).tolist() == [40] * 4 and not reader.damaged
    assert reader.table().count_rows() == 160 and len(reader.sessions) == 1
    assert audit.verify(place, sample=0) == audit.AuditResult(8, 0, {}, [])
    assert manifest.read(place).meta["format"] == 1  # who only reads changes nothing
    assert studies.run(small(), place).new_shards == 4
    files, rows = contents(place)
    assert before[0].items() <= files.items() and set(before[1]) <= set(rows) and len(rows) == 12
    assert manifest.read(place).meta["format"] == manifest.FORMAT == 2
    execute(place, "UPDATE shards SET counts='[0, 20, 0, 0, 0, 0]' WHERE cell=1 AND shard=1")
    assert list(jaxsim.open_study(place).damaged) == ["shards/0000/000001-000001.parquet"]


def test_what_is_wrong_in_the_first_format_is_not_given_a_checksum(tmp_path):
    place = tmp_path / "s"
    shutil.copytree(OLD, place)
    execute(place, "UPDATE shards SET counts='[0, 21, 0, 0, 0, 0]' WHERE cell=1 AND shard=1")
    for _ in range(2):
        name = "shards/0000/000001-000001.parquet"
        assert list(jaxsim.open_study(place).damaged) == [name]
        assert studies.run(small(stop={"lanes": 40}), place).damaged == [name]
    assert studies.run(small(stop={"lanes": 40}), place, repair=True).repaired == [name]
    assert not jaxsim.open_study(place).damaged


@pytest.mark.parametrize("harm", ["directory", "empty table", "no table", "no column", "not a number", "text"])
def test_a_manifest_that_cannot_be_read_is_one_line_with_its_name(place, harm):
    if harm == "directory":
        (place / MANIFEST).unlink()
        (place / MANIFEST).mkdir()
    elif harm == "text":
        (place / MANIFEST).write_text("not a database at all, but some text " * 40)
    else:
        execute(place, {"empty table": "DELETE FROM meta", "no table": "DROP TABLE cells",
                        "no column": "ALTER TABLE sessions DROP COLUMN environment",
                        "not a number": "UPDATE meta SET value='two' WHERE name='format'"}[harm])  # fmt: skip
    told_by_every_command(place)


def commands(place):
    (place.parent / "s.toml").write_text(TOML)
    to = place.parent / "out.parquet"
    to.unlink(missing_ok=True)
    yield "study", "status", place
    yield "study", "verify", place, "--sample", 0
    yield "study", "plot", place
    yield "study", "export", place, "--to", to
    yield "report", place
    yield "study", "run", place.parent / "s.toml", "--out", place


def told_by_every_command(place):
    for command in commands(place):
        code, said = jaxsim_command(*command, cwd=place.parent)
        assert code == 2 and MANIFEST in said, (command, code, said)
        assert len(said.strip().splitlines()) == 1, said


# Corruptions: bytes and values, of both formats.

values = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.binary(max_size=8), st.text(max_size=8),
    st.sampled_from(["[]", "{}", "[1", "null", "[" * 3000, '{"a": 1}', "[20]", "1e999", '"\\ud800"']),
)  # fmt: skip
COLUMNS = {
    "meta": ["name", "value"], "sessions": ["session", "began", "ended", "environment"],
    "cells": ["cell", "problem", "init", "rule"],
    "shards": [
        "cell", "shard", "state", "file", "bytes", "sha256", "counts", "attempts", "seconds", "session", "message",
    ],
}  # fmt: skip
where = st.sampled_from([(table, column) for table, columns in COLUMNS.items() for column in columns])
harms = st.one_of(
    st.tuples(st.just("flip"), st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5)),
    st.tuples(st.just("truncate"), st.floats(0, 1)),
    st.tuples(st.just("zero"), st.floats(0, 1, exclude_max=True)),
    st.tuples(st.just("value"), where, values, st.integers(0, 11)),
    st.tuples(st.just("drop table"), st.sampled_from(list(COLUMNS))),
    st.tuples(st.just("drop column"), where),
)


def do_harm(path, harm):
    content = bytearray(path.read_bytes())
    match harm:
        case "flip", places:
            for place in places:
                bit = int(place * 8 * len(content))
                content[bit // 8] ^= 1 << bit % 8
        case "truncate", share:
            del content[int(share * len(content)) :]
        case "zero", share:
            begin = int(share * len(content)) // 512 * 512
            content[begin : begin + 512] = bytes(512)
        case _:
            with closing(sqlite3.connect(path)) as base, base:
                change_values(base, harm)
            return
    path.write_bytes(content)


def change_values(base, harm):
    try:
        match harm:
            case "value", (table, column), value, row:
                first = COLUMNS[table][0]
                keys = base.execute(f"SELECT {first} FROM {table} ORDER BY {first}").fetchall()
                (key,) = keys[row % len(keys)]
                base.execute(f"UPDATE {table} SET {column}=? WHERE {first}=?", (value, key))
            case "drop table", table:
                base.execute(f"DROP TABLE {table}")
            case "drop column", (table, column):
                base.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    except (sqlite3.IntegrityError, sqlite3.OperationalError, UnicodeEncodeError):  # SQLite does not allow the change
        pass


TOML = """
seed = 3
steps = 60
shard = 20
dtype = "float32"
problem = [{family = "unit-sphere", n = 3, T = 4, d = 5}]
init = [{law = "sphere", radius = [0.1, 8]}]
rule = [{name = "ngd", eta = [0.1, 0.2]}]
stop = {lanes = 60}
"""


def survives(source, tmp_path, harm, chosen):
    """Commands end with a line that names the manifest, or tell damage, or what they tell is what was written."""
    place = tmp_path / "s"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place)
    before = contents(place)
    do_harm(place / MANIFEST, harm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxsim.study.engines.Here", Fake)
        for command in itertools.compress(commands(place), chosen):
            code, said = jaxsim_command(*command, cwd=tmp_path)
            assert "Traceback" not in said
            assert code in (0, 1, 2), (harm, command, code, said)
            assert code != 2 or MANIFEST in said or "shards are damaged" in said, (harm, command, said)
            assert code != 1 or "damaged" in said or "failed" in said or MANIFEST in said, (harm, command, said)
            if code == 0 and source is not OLD and command[1] in ("status", "verify", "export"):
                assert contents(place) == before, (harm, command)


CAMPAIGN = dict(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(max_examples=60, **CAMPAIGN)
@given(harm=harms)
def test_no_traceback_whatever_happens_to_a_manifest(finished, tmp_path, harm):
    survives(finished, tmp_path, harm, (True, False, False, False, False, True))


@settings(max_examples=30, **CAMPAIGN)
@given(harm=harms)
@example(harm=("flip", [0.1968716874035117]))  # SQLite's own message is no text then
def test_no_traceback_whatever_happened_to_an_old_manifest(tmp_path, harm):
    survives(OLD, tmp_path, harm, (True, False, False, False, False, True))


@pytest.mark.parametrize("began", [9.3e18, 7.3e16, -1e300])
def test_a_session_that_began_at_no_date(tmp_path, began):
    survives(OLD, tmp_path, ("value", ("sessions", "began"), began, 0), (False, False, False, False, True, False))


def test_rows_of_which_the_shard_cannot_be_told_are_not_left_out_in_silence(finished, tmp_path):
    survives(finished, tmp_path, ("value", ("shards", "cell"), -1, 0), (True, False, False, True, False, False))


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True])
@settings(max_examples=300, **CAMPAIGN)
@given(harm=harms)
def test_no_traceback_in_any_command(finished, tmp_path, harm, old):
    survives(OLD if old else finished, tmp_path, harm, (True,) * 6)


def test_the_checksum_can_be_had_without_this_package(finished):
    """It is described where the schema is, and nobody needs Python for it."""
    for table, columns in COLUMNS.items():
        for *row, checksum in execute(finished, f"SELECT {', '.join(columns)}, checksum FROM {table}"):
            assert hashlib.sha256(json.dumps(row).encode()).hexdigest()[:16] == checksum
    assert os.path.getsize(finished / MANIFEST) < 60_000

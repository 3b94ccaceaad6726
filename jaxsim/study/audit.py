"""Verifying a study, and exporting it."""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from jaxsim._files import whole, whole_at
from jaxsim.study import folder, manifest
from jaxsim.study.reading import Reader
from jaxsim.study.running import damage
from jaxsim.study.shards import Workshop, counts_of

ROWS = 2**16  # of a row group of an exported table


@dataclasses.dataclass(frozen=True)
class AuditResult:
    """What `verify` found: files with their reasons, and files that another computation made differently."""

    shards: int
    repeated: int
    damaged: dict[str, str]
    different: list[str]


def verify(path: str | os.PathLike, sample: int = 3, progress: Callable[[int, int], None] | None = None) -> AuditResult:
    """Check hash and counts of every shard and every row of the manifests, and compute some shards again.

    Damaged shards are marked in the manifest, so that `run(..., repair=True)` makes them again.

    Args:
        path: the study's folder.
        sample: shards to compute again, spread evenly over those that are sound.
        progress: called as progress(shards checked, shards).

    Raises:
        ValueError: where the folder holds no study.
        jaxsim.study.folder.Held: where another process works in it.
    """
    reader = Reader(path)
    place = reader.folder
    with folder.held(place):
        reader = Reader(path)
        records = [r for r in reader.records.values() if r.state != "failed"]
        damaged, sound = manifest.read(place).damaged | manifest.wrong_cells(place), []
        for k, record in enumerate(records, 1):
            name = str(record.file)
            found = _checked(place, record)
            damaged |= {name: found.message} if found.message else {}
            sound += [] if found.message else [record]
            if found != record:
                _mark(place, found)
            if progress is not None:
                progress(k, len(records))
        chosen = [sound[k * len(sound) // min(sample, len(sound))] for k in range(min(sample, len(sound)))]
        workshop = Workshop(reader.study, reader.files())
        different = [str(r.file) for r in chosen if workshop.shard(r.cell, r.shard).sha256 != r.sha256]
    return AuditResult(len(records), len(chosen), damaged, different)


def _checked(place: Path, record: manifest.Record) -> manifest.Record:
    """What the record should be: done, or damaged with the reason as its message.

    Counts that do not come from the file are dropped; a file that cannot be read may still be what was recorded.
    """
    if not record.counts:
        return record
    why = damage(place, record._replace(state="done"))
    if why is None:
        content = (place / str(record.file)).read_bytes()
        if hashlib.sha256(content).hexdigest() != record.sha256:
            why = "its sha256 is not the recorded one"
        elif (counts := counts_of(content)) not in (None, record.counts):
            why = f"the manifest counts {record.counts}, the file has {counts}"
            return record._replace(state="damaged", counts=(), message=why)
    return record._replace(state="damaged" if why else "done", message=why)


def _mark(place: Path, record: manifest.Record) -> None:
    """Write to every manifest that has the shard in which state it is."""
    for path in manifest.manifests(place):
        book = manifest.Manifest(path)
        try:
            book.remark(record)
        finally:
            book.close()


def export(path: str | os.PathLike, target: str | os.PathLike, leave_out: bool = False) -> int:
    """Write a study as one file.

    Args:
        path: the study's folder.
        target: a new file: .parquet for all lanes, with the numbers of their cells as columns; .nc (NetCDF) or .zarr
            for the fractions with intervals by cell.
        leave_out: go on without damaged shards.

    Returns:
        Rows or cells written.

    Raises:
        ValueError: where the target exists or has another ending, a package is missing, or shards are damaged.
    """
    reader, goal = Reader(path), Path(target)
    if goal.exists():
        raise ValueError(f"to: expected a new file; {os.fspath(target)!r} exists")
    if goal.suffix == ".parquet":
        return _one_parquet(reader, goal, leave_out)
    if goal.suffix not in (".nc", ".zarr"):
        raise ValueError(f"to: expected a name that ends in .parquet, .nc or .zarr; got {os.fspath(target)!r}")
    table = reader.fractions()
    try:
        with whole_at(goal) as part:
            if goal.suffix == ".nc":
                table.to_netcdf(part, engine="h5netcdf")
            else:
                table.to_zarr(part, zarr_format=2)  # text has no settled form in the third
    except ImportError as error:
        raise ValueError(
            f"to: {goal.suffix} needs a further package; pip install 'jaxsim-attention[export]'"
        ) from error
    return reader.count


def _one_parquet(reader: Reader, goal: Path, leave_out: bool) -> int:
    """Shard by shard, in constant memory; the file appears under its name when it is complete."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = reader.cells().drop(columns=["lanes", "done"])
    described = pa.Table.from_pandas(numbers, preserve_index=False)
    names = [name for name in described.column_names if name != "cell"]
    rows = 0
    schema = pa.schema([*reader.schema, *(described.schema.field(name) for name in names)])
    with whole(goal) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for table in reader.shards(damaged="leave out" if leave_out else "refuse"):
            own = described.take(table["cell"].combine_chunks())
            columns = [*table.columns, *(own[name] for name in names)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=ROWS)
            rows += table.num_rows
    return rows

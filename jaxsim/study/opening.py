"""What has to be right before a study runs in a folder, and what is put there first."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsim.data import files as stored
from jaxsim.study import cells, folder, manifest, toml
from jaxsim.study.sources import differences
from jaxsim.study.spec import Study


def known(place: Path, study: Study) -> manifest.Contents:
    """What the folder knows of the study so far; a folder of anything else is refused."""
    if not manifest.manifests(place):
        strange = [p.name for p in place.iterdir() if p.name.split("-")[0] != "lock"] if place.is_dir() else []
        if strange:
            raise ValueError(
                f"out: expected a new folder or that of a study; {os.fspath(place)!r} holds {strange[0]!r}"
            )
        return manifest.Contents()
    found = manifest.read(place)
    if "study" not in found.meta:
        return found
    depends, there = study.what_shards_depend_on(), toml.recorded(found, place).what_shards_depend_on()
    if there != depends:
        changes = "\n  ".join(differences(there, depends))
        raise ValueError(
            f"out: {os.fspath(place)!r} holds another study, with other shards:\n  {changes}\n"
            "Give this one a folder of its own. Only name and [stop] may change."
        )
    return found


def problem_files(place: Path, study: Study) -> dict[str, bytes]:
    """Contents of the problem files by fingerprint: those that the study keeps, or where it has none yet, the given."""
    files: dict[str, bytes] = {}
    for entry in study.problem:
        if entry.family == "file":
            kept = folder.problem_of(place, entry.fingerprint)
            used = kept if kept.exists() else Path(entry.path)
            if stored.load(used).fingerprint() != entry.fingerprint:
                raise ValueError(f"out: {os.fspath(used)!r} is not the problem with which the study began")
            files[entry.fingerprint] = used.read_bytes()
    return files


def make(place: Path) -> None:
    """The folder, where it is not there yet."""
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out: cannot make the folder {os.fspath(place)!r}: {error.strerror}") from error


def begin(place: Path, study: Study, files: Mapping[str, bytes], process: int, processes: int) -> manifest.Manifest:
    """The manifest for writing, and the problem files beside it."""
    book = manifest.Manifest(manifest.manifest_of(place, process))
    for fingerprint, content in files.items():
        kept = folder.problem_of(place, fingerprint)
        if not kept.exists():
            folder.write_durably(kept, content)
    if processes == 1:
        folder.remove_parts(place)
    book.put(study=study.model_dump(), hash=study.hash)
    line = _json_line
    book.put_cells(
        (cell.index, line(cell.problem.plain()), line(cell.init.plain()), line(cell.rule.plain()))
        for cell in cells.cells(study)
    )
    return book


def forget(place: Path, book: manifest.Manifest, processes: int) -> None:
    """Delete rows that are not as they were written; in manifests of others only where nobody else can be at work."""
    book.forget_wrong_rows()
    for path in manifest.manifests(place) if processes == 1 else ():
        if path != book.path:
            other = manifest.Manifest(path)
            try:
                other.forget_wrong_rows()
            finally:
                other.close()


def _json_line(value: Any) -> str:
    """Plain values in one line, always the same for the same values."""
    return json.dumps(value, sort_keys=True, allow_nan=False)

"""Results as .npz files: arrays, a problem, and JSON for the rest. A file is data: nothing in it is executed."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsim import _files
from jaxsim._archive.arrays import array_names, read_array, read_arrays, told
from jaxsim._archive.complete import check_fields
from jaxsim.problem import Problem

__all__ = ["FORMAT", "array_names", "arrays_of", "check_fields", "read", "read_array", "read_arrays", "told", "write"]

FORMAT = 1


def write(
    path: str | os.PathLike, kind: str, problem: Problem | None, arrays: Mapping[str, Any], meta: Mapping[str, Any]
) -> None:
    """Write one result; the file appears under its name only when it is complete."""
    content = dict(arrays)
    if problem is not None:
        content |= {f"problem.{name}": value for name, value in arrays_of(problem).items()}
        if problem.test is not None:
            content |= {f"problem.test.{name}": value for name, value in arrays_of(problem.test).items()}
    content["meta"] = np.array(json.dumps({"format": FORMAT, "kind": kind, **meta}))
    with _files.whole(path) as file:  # given a name, NumPy would append a suffix to it
        np.savez_compressed(file, **content)  # type: ignore[arg-type]


def read(path: str | os.PathLike, kind: str) -> tuple[Problem | None, dict[str, np.ndarray], dict[str, Any]]:
    """The problem, the other arrays and the rest of a file that `write` wrote.

    Raises:
        ValueError: where the file cannot be read, holds another kind of result, or comes from a newer format.
    """
    try:
        arrays = read_arrays(path)
        meta = json.loads(str(arrays.pop("meta")))
        if not isinstance(meta, dict) or not isinstance(meta.get("format"), int):
            raise ValueError("what it says of itself has no format")
        found, newest = meta.pop("kind", "run"), meta.pop("format")
        fields: dict[str, Any] = {n[8:]: arrays.pop(n) for n in list(arrays) if n.startswith("problem.")}
        tests = {name[5:]: fields.pop(name) for name in list(fields) if name.startswith("test.")}
        problem = None
        if newest <= FORMAT and fields:
            problem = Problem(**fields, test=Problem(**tests) if tests else None)
    except Exception as error:
        raise ValueError(f"path: expected a saved {kind} at {os.fspath(path)!r}; {told(error)}") from error
    if newest > FORMAT:
        raise ValueError(f"path: {os.fspath(path)!r} has format {newest}; this version reads up to {FORMAT}")
    if found != kind:
        raise ValueError(f"path: expected a saved {kind} at {os.fspath(path)!r}; it holds a {found}")
    return problem, arrays, meta


def arrays_of(problem: Problem) -> dict[str, np.ndarray]:
    """What a problem is made of, under the names of its arguments."""
    found = {name: getattr(problem, name) for name in ("tokens", "queries", "labels", "decoder")}
    found["mask"] = problem.visible
    return found if problem.given_keys is None else found | {"keys": problem.given_keys}

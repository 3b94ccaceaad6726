"""Problems as .npz files. A file is data: nothing in it is ever executed."""

import os
import zipfile

import numpy as np

from jaxsim.problem import Problem

REQUIRED = ("tokens", "queries", "labels", "decoder")


def load(path: str | os.PathLike) -> Problem:
    """Read a problem from an .npz file whose arrays have the names of Problem's fields.

    Args:
        path: the file. Needed: tokens (n, T, d), queries (n, d) or integer indices (n,), labels (n,), decoder
            (d,). Optional: mask (n, T), keys (n, T, k). Other arrays are ignored.

    Raises:
        ValueError: where the file cannot be read, or names are missing (the message lists them).
    """
    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with content as archive:
            names = [name for name in (*REQUIRED, "mask", "keys") if name in archive.files]
            arrays = {name: archive[name] for name in names}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"data: expected a readable .npz file at {os.fspath(path)!r}; {error}") from error
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise ValueError(f"data: {os.fspath(path)!r} lacks {', '.join(missing)}; expected {', '.join(REQUIRED)}")
    return Problem(**arrays)


def save(problem: Problem, path: str | os.PathLike) -> None:
    """Write a problem so that `load` reads it back exactly."""
    arrays = {name: getattr(problem, name) for name in REQUIRED}
    if problem.given_keys is not None:
        arrays["keys"] = problem.given_keys
    with open(path, "wb") as file:  # given a name, NumPy would append a suffix to it
        np.savez_compressed(file, **arrays, mask=problem.visible)

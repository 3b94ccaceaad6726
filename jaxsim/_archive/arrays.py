"""Reading .npz and .npy files that anybody may have made: everything is looked at before it is believed."""

import math
import os
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxsim import _machine

MAGIC = b"\x93NUMPY"


def read_arrays(path: str | os.PathLike, wanted: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Those of the wanted arrays, or all, that an .npz file holds.

    What the header of an array claims is held against what is in the file, and against memory, before it is read.

    Raises:
        ValueError: whatever is wrong with the file; the message says what, and leaves it to the caller to name the
            file.
    """
    with _opened(path) as file:
        if file.read(6) == MAGIC:
            raise ValueError("it holds a single array")
        file.seek(0)
        try:
            with zipfile.ZipFile(file) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                names = members if wanted is None else [name for name in wanted if name in members]
                return {name: _member(archive, members[name], name) for name in names}
        except Exception as error:  # of zipfile, of what unpacks its members, of NumPy's reader of headers
            raise ValueError(told(error)) from error


def array_names(path: str | os.PathLike) -> list[str]:
    """The names of the arrays of an .npz file.

    Raises:
        ValueError: as `read_arrays`.
    """
    with _opened(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return [info.filename.removesuffix(".npy") for info in archive.infolist()]
        except Exception as error:
            raise ValueError(told(error)) from error


def read_array(path: str | os.PathLike) -> np.ndarray:
    """The array of an .npy file, under the same conditions.

    Raises:
        ValueError: as `read_arrays`.
    """
    with _opened(path) as file:
        try:
            return _checked(file, os.fstat(file.fileno()).st_size, "the array")
        except Exception as error:
            raise ValueError(told(error)) from error


def told(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split()) or type(error).__name__


def _opened(path: str | os.PathLike) -> IO[bytes]:
    try:
        if not Path(path).is_file():  # a pipe or a device may never end
            raise ValueError("it is no file" if Path(path).exists() else "No such file or directory")
        return open(path, "rb")
    except OSError as error:
        raise ValueError(told(error)) from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    with archive.open(info) as file:
        return _checked(file, info.file_size, name)


def _checked(file: Any, size: int, name: str) -> np.ndarray:
    """Read an array of which `size` bytes, header and all, are there."""
    format = np.lib.format
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers as Python 2 wrote them
        version = format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} is in version {version} of NumPy's format")
        shape, _, dtype = (format.read_array_header_1_0 if version == (1, 0) else format.read_array_header_2_0)(file)
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which are never loaded")
        if not all(isinstance(side, int) and side >= 0 for side in shape):
            raise ValueError(f"{name} has shape {shape}")
        claimed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
        if claimed > there:
            raise ValueError(f"{name} has shape {shape} in its header and {there} bytes of data")
        _machine.need(name, claimed, f"numbers of shape {shape}")
        file.seek(0)
        array = format.read_array(file, allow_pickle=False)
        file.read(1)  # at its end a member is held against its checksum
    return array

"""Problems as .npz files. A file is data: nothing in it is ever executed."""

import difflib
import os
from typing import Any

import numpy as np

from jaxsim import _archive, _files
from jaxsim.data.images import ridge_decoder
from jaxsim.problem import Problem

REQUIRED = ("tokens", "queries", "labels", "decoder")
TESTS = ("test_tokens", "test_queries", "test_labels", "test_mask", "test_keys")
KNOWN = (*REQUIRED, "mask", "keys", *TESTS)


def load(path: str | os.PathLike) -> Problem:
    """Read a problem from an .npz file whose arrays have the names of Problem's fields.

    Args:
        path: the file. Needed: tokens (n, T, d), queries (n, d) or integer indices (n,), labels (n,), decoder
            (d,). Optional: mask (n, T), keys (n, T, k), and the same of test sequences, test_tokens and so on, whose
            decoder is that of the others.

    Raises:
        ValueError: where the file cannot be read, names are missing (the message lists them), or there are others.
    """
    arrays: dict[str, Any] = _arrays(path, KNOWN, REQUIRED)
    tests = {name[5:]: arrays.pop(name) for name in list(arrays) if name.startswith("test_")}
    if tests:
        _require(path, {f"test_{name}": value for name, value in tests.items()}, TESTS[:3])
        arrays["test"] = _problem(path, **tests, decoder=arrays["decoder"])
    return _problem(path, **arrays)


def load_split(path: str | os.PathLike) -> tuple[Problem, Problem | None]:
    """Read training and test sequences for a head whose decoder is trained.

    Args:
        path: the file. Needed: tokens (n, T, d), queries (n, e) or integer indices (n,), labels (n,). Optional:
            mask (n, T); test_tokens, test_queries, test_labels and test_mask, where n and T may differ; decoder (d,),
            by default the ridge regression of the labels on the mean training tokens.

    Returns:
        The training set, and the test set or None.

    Raises:
        ValueError: where the file cannot be read, names are missing or unknown, or the two sets have other
            dimensions.
    """
    names = ("tokens", "queries", "labels", "mask")
    arrays: dict[str, Any] = _arrays(path, (*names, *TESTS[:4], "decoder"), names[:3])
    decoder = arrays.pop("decoder", None)
    tests = {name[5:]: arrays.pop(name) for name in list(arrays) if name.startswith("test_")}
    if decoder is None:
        # Any decoder will do for the check of the arrays, on which the regression may then rely.
        any_ = np.random.default_rng(0).standard_normal(np.shape(arrays["tokens"])[-1:])
        known = _problem(path, **arrays, decoder=any_)
        decoder = ridge_decoder(known.tokens, known.labels, mask=known.visible)
    train = _problem(path, **arrays, decoder=decoder)
    if not tests:
        return train, None
    _require(path, {f"test_{name}": value for name, value in tests.items()}, tuple(f"test_{n}" for n in names[:3]))
    try:
        test = Problem(**tests, decoder=decoder)
    except ValueError as error:
        raise ValueError(f"test set: {error}") from error
    if test.W_shape != train.W_shape:
        raise ValueError(f"test set: expected weights of shape {train.W_shape} as in training; got {test.W_shape}")
    return train, test


def _arrays(path: str | os.PathLike, wanted: tuple[str, ...], needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of the wanted arrays that the file has; it has those that are needed, and none that nobody reads."""
    try:
        arrays = _archive.read_arrays(path, wanted)
        unread = [name for name in _archive.array_names(path) if name not in KNOWN]
    except ValueError as error:
        raise ValueError(f"data: expected a readable .npz file at {os.fspath(path)!r}; {error}") from error
    _require(path, arrays, needed)
    if unread:
        near = difflib.get_close_matches(unread[0], KNOWN, 1)
        told = f"the nearest name is {near[0]!r}" if near else f"expected some of {', '.join(KNOWN)}"
        raise ValueError(f"data: {os.fspath(path)!r} holds {unread[0]!r}, which nobody reads; {told}")
    return arrays


def _problem(path: str | os.PathLike, **arrays: Any) -> Problem:
    """The problem of arrays from a file, which its error names."""
    try:
        return Problem(**arrays)
    except ValueError as error:
        raise ValueError(f"data: {os.fspath(path)!r}: {error}") from error


def _require(path: str | os.PathLike, arrays: dict[str, np.ndarray], needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise ValueError(f"data: {os.fspath(path)!r} lacks {', '.join(missing)}; expected {', '.join(needed)}")


def save(problem: Problem, path: str | os.PathLike) -> None:
    """Write a problem so that `load` reads it back exactly."""
    arrays = _archive.arrays_of(problem)
    if problem.test is not None:
        others = _archive.arrays_of(problem.test)
        arrays |= {f"test_{name}": value for name, value in others.items() if name != "decoder"}
    with _files.whole(path) as file:  # given a name, NumPy would append a suffix to it
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

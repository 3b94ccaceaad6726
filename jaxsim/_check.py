"""Checks of user input, each with a message that says what was expected and what came."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

NOT_REAL = "cSUMm"  # kinds of NumPy's types: complex, bytes, text, dates, spans of time
LARGEST_SEED = 2**32 - 1  # a larger one is cut off where JAX has 64 bits switched off: other draws for the same seed


def finite_array(name: str, value: Any, shape: tuple[int | None, ...], expected: str) -> np.ndarray:
    """Copy `value` to float64 if it has the given shape (None: any length) and only finite entries."""
    got = type(value).__name__
    try:
        given = np.asarray(value)
        got = f"{given.dtype} of shape {given.shape}"
        # NumPy would drop imaginary parts, read text and count dates in seconds.
        strange = given.dtype.kind in NOT_REAL or given.dtype.names is not None
        array = None if strange else np.array(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = None
    if array is None:
        raise ValueError(f"{name}: expected real numbers of shape {expected}; got {got}")
    fits = array.ndim == len(shape) and all(b is None or a == b for a, b in zip(array.shape, shape, strict=True))
    if not fits:
        wanted = "" if None in shape else f" = {shape}"
        raise ValueError(f"{name}: expected shape {expected}{wanted}; got {array.shape}")
    if not np.isfinite(array).all():
        where = tuple(int(v) for v in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}: expected finite numbers; got {array[where]} at index {where}")
    return array


def positive_number(name: str, value: Any) -> float:
    """A finite number above zero."""
    number = finite_number(name, value)
    if number <= 0:
        raise ValueError(f"{name}: expected a number above 0; got {value}")
    return number


def number_from_zero(name: str, value: Any) -> float:
    """The value as a float, refused unless finite and 0 or more."""
    number = finite_number(name, value)
    if number < 0:
        raise ValueError(f"{name}: expected 0 or more; got {value}")
    return number


def finite_number(name: str, value: Any) -> float:
    """A finite real number."""
    try:
        if isinstance(value, complex | np.complexfloating):
            raise TypeError("NumPy would drop the imaginary part")
        number = float(value)
    except OverflowError:  # a whole number beyond them all
        number = math.inf
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected a number; got {_brief(value)}") from error
    if not math.isfinite(number):
        shown = number if isinstance(value, float | np.floating) else _brief(value)
        raise ValueError(f"{name}: expected a finite number; got {shown}")
    return number


def whole_number(name: str, value: Any, at_least: int = 1, at_most: int | None = None) -> int:
    """An integer no smaller than `at_least` and no larger than `at_most`."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ValueError(f"{name}: expected a whole number; got {_brief(value)}") from error
    if number < at_least:
        raise ValueError(f"{name}: expected at least {at_least}; got {_brief(number)}")
    if at_most is not None and number > at_most:
        bound = at_most if at_most < 10**20 else f"{at_most:.0e}"
        raise ValueError(f"{name}: expected at most {bound}; got {_brief(number)}")
    return number


def step_number(name: str, value: Any, at_least: int = 1, at_most: int | None = None) -> int:
    """A number of steps: a whole number, which may be written as 1e15."""
    whole = isinstance(value, float | np.floating) and math.isfinite(value) and value == int(value)
    return whole_number(name, int(value) if whole else value, at_least, at_most)


def written_steps(text: str) -> int:
    """A number of steps as it is written, such as 2000 or 1e15."""
    try:
        number = int(text) if text.strip().isascii() and text.strip().isdigit() else float(text)
    except ValueError:
        number = text
    return step_number("steps", number)


def seed_number(name: str, value: Any) -> int:
    """A seed whose JAX key is the same with 64 bits and without."""
    return whole_number(name, value, at_least=0, at_most=LARGEST_SEED)


def open_share(name: str, value: Any) -> float:
    """A number strictly between 0 and 1, such as a confidence level."""
    number = finite_number(name, value)
    if not 0 < number < 1:
        raise ValueError(f"{name}: expected a number between 0 and 1; got {value}")
    return number


def random_key(name: str, value: Any) -> jax.Array:
    """One JAX key, typed or as raw words."""
    typed = isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
    raw = isinstance(value, jax.Array) and value.dtype == np.uint32
    if not (typed and value.ndim == 0 or raw and value.ndim == 1):
        raise ValueError(f"{name}: expected a JAX key such as jax.random.key(0); got {value!r}")
    return value


def one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    """One of several words."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}; got {value!r}")
    return value


def ties_in_top_score(scores: np.ndarray, visible: np.ndarray | None) -> None:
    """Refuse a sequence whose two best token scores agree to rounding."""
    s = scores if visible is None else np.where(visible, scores, -np.inf)
    best = np.sort(s, axis=1)[:, -2:]
    tied = best[:, 1] - best[:, 0] <= 8 * np.finfo(np.float64).eps * np.abs(s[np.isfinite(s)]).max()
    if tied.any():
        i = int(np.argmax(tied))
        first, second = np.argsort(s[i])[::-1][:2]
        raise ValueError(
            f"decoder: tokens {first} and {second} of sequence {i} tie for the top score y uᵀx = {best[i, 1]:.6g}, "
            "so its optimal token is not defined. Leave the sequence out, hide one of the tokens with the "
            "mask, or use a decoder that tells them apart."
        )


def _brief(value: Any) -> str:
    """A value in a message: not more of it than a line has room for."""
    try:
        text = repr(value)
    except ValueError:  # Python writes out no whole number of more than 4,300 digits
        text = f"a whole number of {value.bit_length()} bits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def token_numbers(name: str, value: Any, K: int) -> np.ndarray:
    """Sequences of tokens of a vocabulary, by number from 0 to K - 1, shape (n, T)."""
    tokens = np.array(value)
    if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(f"{name}: expected token numbers of shape (n, T); got {tokens.dtype} of {tokens.shape}")
    if tokens.min(initial=0) < 0 or tokens.max(initial=0) >= K:
        raise ValueError(
            f"{name}: expected tokens from 0 to K - 1 = {K - 1}; got some from {tokens.min()} to {tokens.max()}"
        )
    return tokens

"""The checker of shapes: `--jaxtyping-packages=jaxsim,shapes.checked` puts it around every function of the package.

It checks what an annotation says of arrays (kind of array, dtype, shape, the same name for the same length throughout
one call) and nothing else; jaxtyping asks it for two stand-ins per function, which bear its name and annotations.
"""

import collections.abc
import typing

from beartype import BeartypeConf, BeartypeStrategy, beartype
from jaxtyping import AbstractArray

CHECKED: set[str] = set()  # functions with an array in their annotations

_check = beartype(conf=BeartypeConf(is_pep484_tower=True, strategy=BeartypeStrategy.On))


def _of_arrays(annotation) -> bool:
    """Whether an array is named anywhere in the annotation."""
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    if typing.get_origin(annotation) is collections.abc.Callable:
        return False  # what a function takes is checked where it is called
    return any(_of_arrays(part) for part in typing.get_args(annotation))


def checked(function):
    """The function, its arrays checked at every call."""
    arrays = {name: value for name, value in function.__annotations__.items() if _of_arrays(value)}
    if not arrays:
        return function
    function.__annotations__ = arrays
    CHECKED.add(f"{function.__module__}.{function.__qualname__}")
    return _check(function)

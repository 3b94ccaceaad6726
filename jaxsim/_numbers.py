"""The numbers that make a rule or a law: one for each parameter, or several, which are swept."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxsim._check import finite_number


@dataclasses.dataclass(frozen=True)
class Axis:
    """Several values in the place of one: `jaxsim.sweep` runs each."""

    values: tuple[float, ...]

    def __rsub__(self, other: float) -> "Axis":
        return Axis(tuple(other - value for value in self.values))

    def __repr__(self):
        shown = [f"{value:g}" for value in self.values]
        return f"[{', '.join(shown if len(shown) < 6 else [*shown[:2], '…', shown[-1]])}]"


def numbers(name: str, value: Any, check: Callable[[str, Any], float] = finite_number) -> Any:
    """A number of a pytree, checked and made plain, or an `Axis` of several; what JAX is tracing is left alone."""
    if isinstance(value, jax.core.Tracer | Axis):  # type: ignore[attr-defined]
        return value
    if not isinstance(value, list | tuple) and np.ndim(value) != 1:
        return check(name, value)
    values = tuple(check(f"{name}[{k}]", each) for k, each in enumerate(value))
    if len(set(values)) < max(len(values), 1):
        raise ValueError(f"{name}: expected one number, or several that differ; got {value!r}")
    return Axis(values)


def axes(thing: Any) -> dict[str, tuple[float, ...]]:
    """The parameters of a rule or a law that have several values, in order; those of a rule in a rule first."""
    found: dict[str, tuple[float, ...]] = {}
    for name, value in _given(thing).items():
        found |= {name: value.values} if isinstance(value, Axis) else axes(value)
    return found


def _given(thing: Any) -> dict[str, Any]:
    """What a rule, a law or a part of one was made of."""
    fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
    return {field.name: getattr(thing, field.name) for field in fields if field.init}


def points(thing: Any) -> list[Any]:
    """What it is at every combination of the values of its axes, the last axis fastest; itself where it has none."""
    if not axes(thing):
        return [thing]
    parts = {name: value.values if isinstance(value, Axis) else points(value) for name, value in _given(thing).items()}
    each = [dict(zip(parts, values, strict=True)) for values in itertools.product(*parts.values())]
    return [dataclasses.replace(thing, **values) for values in each]


def one_each(name: str, thing: Any) -> None:
    """Refuse several values where one is expected.

    Raises:
        ValueError: where a parameter has several.
    """
    for parameter, values in axes(thing).items():
        raise ValueError(
            f"{name}: {type(thing).__name__} has {len(values)} values of {parameter}; expected one. jaxsim.sweep runs "
            "them all"
        )

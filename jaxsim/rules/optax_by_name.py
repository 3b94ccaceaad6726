"""Schedules and optax transformations by name and plain numbers, so that files can tell them and get them back."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxsim._check import finite_number

SCHEDULES: dict[str, tuple[str, dict[str, str]]] = {  # name in optax, and what its arguments are called here
    "constant": ("constant_schedule", {"value": "value"}),
    "polynomial": (
        "polynomial_schedule",
        {"init": "init_value", "end": "end_value", "power": "power", "steps": "transition_steps",
         "begin": "transition_begin"},
    ),
    "exponential": (
        "exponential_decay",
        {"init": "init_value", "steps": "transition_steps", "rate": "decay_rate", "begin": "transition_begin",
         "staircase": "staircase", "end": "end_value"},
    ),
    "cosine": (
        "cosine_decay_schedule",
        {"init": "init_value", "steps": "decay_steps", "alpha": "alpha", "exponent": "exponent"},
    ),
}  # fmt: skip
TRANSFORMATIONS = ("sgd", "adam", "nadam", "amsgrad", "adabelief", "adagrad", "rmsprop", "lion", "yogi")
WHOLE = ("steps", "begin")
TAGS = {"schedule": "schedule", "transformation": "name"}  # the key of the name in a table


@dataclasses.dataclass(frozen=True)
class Named:
    """A function of optax by name, with plain numbers; equal where these are, so that programs are compiled once.

    Made by `jaxsim.rules.schedule` and `jaxsim.rules.transformation`.
    """

    kind: str
    name: str
    values: tuple[tuple[str, Any], ...]

    def __repr__(self):
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.values)})"

    def plain(self) -> dict[str, Any]:
        """Name and numbers."""
        return {TAGS[self.kind]: self.name, **dict(self.values)}

    def __call__(self, step: Any) -> Any:
        """The schedule at `step`."""
        with jax.numpy_dtype_promotion("standard"):  # which optax relies on
            return self._made(step)

    @property
    def init(self) -> Callable[..., Any]:
        """The transformation's first state."""
        return self._made.init

    @property
    def update(self) -> Callable[..., Any]:
        """The transformation's updates and next state."""
        return self._made.update

    @functools.cached_property
    def _made(self) -> Any:
        import optax

        if self.kind == "transformation":
            return getattr(optax, self.name)(**dict(self.values))
        source, names = SCHEDULES[self.name]
        return getattr(optax, source)(**{names[k]: v for k, v in self.values})


def schedule(name: str, **values: float) -> Named:
    """A schedule of step sizes that files can tell: "constant", "polynomial", "exponential" or "cosine", as in optax.

    Args:
        name: which one.
        **values: constant: value; polynomial: init, end, power, steps and begin (0); exponential: init, steps, rate,
            begin (0), staircase (False) and end; cosine: init, steps, alpha (0) and exponent (1).

    Raises:
        ValueError: where the name or a number is none of these.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.NGD(jaxsim.rules.schedule("cosine", init=0.5, steps=1000))
        NGD(eta=cosine(init=0.5, steps=1000))
    """
    import optax

    if name not in SCHEDULES:
        raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)}; got {name!r}")
    source, names = SCHEDULES[name]
    known = inspect.signature(getattr(optax, source)).parameters
    required = [own for own, theirs in names.items() if known[theirs].default is inspect.Parameter.empty]
    found = Named("schedule", name, _numbers("schedule", name, values, tuple(names), required))
    for step in (0, dict(found.values).get("steps", 0)):
        if not float(found(step)) >= 0:
            raise ValueError(f"schedule: expected step sizes of at least 0; {found!r} gives {float(found(step)):g}")
    return found


def transformation(name: str, **values: float) -> Named:
    """An optax transformation that files can tell, for `jaxsim.rules.Optax`.

    Args:
        name: "sgd", "adam", "nadam", "amsgrad", "adabelief", "adagrad", "rmsprop", "lion" or "yogi".
        **values: learning_rate, and the other numbers that optax's function of this name takes.

    Raises:
        ValueError: where the name or a number is none of these.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.Optax(jaxsim.rules.transformation("adam", learning_rate=0.01))
        Optax(adam(learning_rate=0.01), normalise=False)
    """
    import optax

    if name not in TRANSFORMATIONS:
        raise ValueError(f"transformation: expected one of {', '.join(TRANSFORMATIONS)}; got {name!r}")
    known = inspect.signature(getattr(optax, name)).parameters
    numbers = [k for k, p in known.items() if isinstance(p.default, bool | int | float) and "weight_decay" not in k]
    allowed = ("learning_rate", *numbers, *(("momentum",) if "momentum" in known else ()))
    given = _numbers("transformation", name, values, tuple(dict.fromkeys(allowed)), ["learning_rate"])
    if dict(given)["learning_rate"] <= 0:
        raise ValueError(f"learning_rate: expected a number above 0; got {dict(given)['learning_rate']:g}")
    return Named("transformation", name, given)


def read(kind: str, data: Any) -> Named:
    """The schedule of a table {schedule = NAME, …}, or the transformation of a table {name = NAME, …}.

    Raises:
        ValueError: where it is none.
    """
    make, tag = {"schedule": schedule, "transformation": transformation}[kind], TAGS[kind]
    if not isinstance(data, Mapping) or not isinstance(data.get(tag), str):
        raise ValueError(f"{kind}: expected a table with {tag} and numbers; got {data!r}")
    return make(data[tag], **{str(k): v for k, v in data.items() if k != tag})


def _numbers(kind: str, name: str, values: Mapping[str, Any], allowed: tuple[str, ...], required: list[str]) -> Any:
    """The given numbers, checked, in the order in which they are listed."""
    for key in (*values, *required):
        if key not in allowed:
            raise ValueError(f"{kind}: {name} has no {key!r}; expected {', '.join(allowed)}")
        if key not in values:
            raise ValueError(f"{kind}: {name} lacks {key!r}; expected {', '.join(required)}")
    return tuple((key, _number(key, values[key])) for key in allowed if key in values)


def _number(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if name in WHOLE:
        if int(finite_number(name, value)) != value or value < 0:
            raise ValueError(f"{name}: expected a whole number of steps; got {value!r}")
        return int(value)
    return finite_number(name, value)

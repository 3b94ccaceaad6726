"""Rules as plain data and back, and in few words for tables and figures."""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from jaxsim.rules.base import Constant, Scheduled
from jaxsim.rules.contract import ALL_RULES
from jaxsim.rules.coordinatewise import Optax
from jaxsim.rules.decayed import Decayed
from jaxsim.rules.optax_by_name import Named, read
from jaxsim.rules.per_block import PerBlock
from jaxsim.rules.sam import SAM

AROUND = (Decayed, SAM)  # one rule
MADE_OF_RULES: dict[str, Any] = {made.name: made for made in (PerBlock, *AROUND, Optax)}


def parameters(rule: Any) -> dict[str, Any]:
    """A rule as its name and parameters, values that JSON can hold; `build` makes it again.

    A schedule is {"schedule": NAME, …} with its numbers where it is one of `jaxsim.rules.schedule`; of any other only
    the name of the function is told, and of an optax transformation that is not one of `jaxsim.rules.transformation`
    nothing. Such rules cannot be built again.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.parameters(jaxsim.rules.NGD(0.1))
        {'name': 'ngd', 'eta': 0.1}
        >>> jaxsim.rules.parameters(jaxsim.rules.PerBlock(jaxsim.rules.NGD(0.1), jaxsim.rules.GD(1)))["rules"]
        [{'name': 'ngd', 'eta': 0.1}, {'name': 'gd', 'eta': 1.0}]
    """
    if isinstance(rule, PerBlock):
        return {"name": rule.name, "rules": [parameters(each) for each in rule.rules]}
    inner = {"rule": parameters(rule.rule)} if isinstance(rule, AROUND) else {}
    return {"name": rule.name} | inner | {name: _plain(value) for name, value, _ in _given(rule)}


def build(data: Mapping[str, Any]) -> Any:
    """The rule that plain data stand for, as `parameters` gives them.

    Args:
        data: {"name": NAME, …} with the rule's parameters; what is left out has its default.

    Raises:
        ValueError: where no rule has that name, or a parameter is missing, unknown or out of range.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.build({"name": "ngd", "eta": {"schedule": "constant", "value": 0.1}})
        NGD(eta=constant(value=0.1))
    """
    values = dict(data)
    name = values.pop("name", None)
    if name == PerBlock.name:
        return PerBlock(*map(build, values.pop("rules", ())))
    if name in {around.name for around in AROUND}:
        inner = values.pop("rule", None)
        if not isinstance(inner, Mapping):
            raise ValueError(f"rule: expected a table of a rule, such as {{'name': 'ngd', 'eta': 0.1}}; got {inner!r}")
        values["rule"] = build(inner)
    elif name == Optax.name:
        values["transformation"] = read("transformation", values.get("transformation"))
    elif name not in ALL_RULES:
        raise ValueError(
            f"rule: expected one of {', '.join(ALL_RULES)}; got {name!r}; {ALL_RULES.how_to_register(name)}"
        )
    values = {k: read("schedule", v) if isinstance(v, Mapping) else v for k, v in values.items()}
    make: Any = MADE_OF_RULES.get(name) or ALL_RULES[name]
    try:
        inspect.signature(make).bind(**values)
    except TypeError as error:
        raise ValueError(f"rule: {name}: {error}") from None
    return make(**values)


def label(rule: Any) -> str:
    """A rule in few words: its class, its first parameter, and others where they differ from their defaults.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.label(jaxsim.rules.PerBlock(jaxsim.rules.NGD(0.1), jaxsim.rules.Mirror(0.5, p=3)))
        'PerBlock NGD 0.1, Mirror 0.5, p=3.0'
        >>> jaxsim.rules.label(jaxsim.rules.Decayed(jaxsim.rules.Adam(0.1), 0.01))
        'Decayed Adam 0.1, rate=0.01'
        >>> jaxsim.rules.label(jaxsim.rules.SAM(jaxsim.rules.NGD(0.1), 0.05))
        'SAM NGD 0.1, rho=0.05'
        >>> jaxsim.rules.label(jaxsim.rules.Polyak())
        'Polyak 1'
    """
    if isinstance(rule, PerBlock):
        parts = [label(each) for each in rule.rules]
    elif isinstance(rule, AROUND):
        others = (f"{name}={_short(value)}" for name, value, default in _given(rule) if value != default)
        parts = [label(rule.rule), *others]
    else:
        parts = []
        for k, (name, value, default) in enumerate(_given(rule)):
            text = repr(value)
            if k == 0 and not _hidden(value):
                parts.append(text)
            elif k > 0 and text not in (repr(default), repr(default).removesuffix(".0")):
                parts.append(f"{name}={text}")
    return " ".join([type(rule).__name__, ", ".join(parts)]).strip()


def _given(rule: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, value and default of each parameter that the rule keeps."""
    shown = {f.name: f.repr for f in dataclasses.fields(rule)} if dataclasses.is_dataclass(rule) else {}
    for name, parameter in inspect.signature(type(rule)).parameters.items():
        if hasattr(rule, name) and shown.get(name, True) and not (name == "rule" and isinstance(rule, AROUND)):
            value = getattr(rule, name)
            yield name, value if not hasattr(value, "item") else value.item(), parameter.default


def _short(rate: Any) -> str:
    """A number as the others are shown."""
    return repr(rate).removesuffix(".0")


def _hidden(value: Any) -> bool:
    """What cannot be told in words: a transformation of optax that has no name."""
    return hasattr(value, "update") and not isinstance(value, Named)


def _plain(value: Any) -> Any:
    """A parameter as JSON can hold it."""
    if isinstance(value, Constant):
        return float(value.value)
    if isinstance(value, Scheduled):
        return _plain(value.schedule) if isinstance(value.schedule, Named) else {"schedule": repr(value)}
    if isinstance(value, Named):
        return value.plain()
    if _hidden(value):
        return None
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return repr(value)

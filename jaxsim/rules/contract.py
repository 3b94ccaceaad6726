"""What a rule is held against, as a class and as an object, and the registry of all rules."""

import inspect
from typing import Any

import jax
import numpy as np

from jaxsim._numbers import one_each
from jaxsim._registry import Registry, called, needs

METHODS = ("init", "update", "report")
UNKNOWN = "it does not say that its increments come to change slowly"
# What a class need not say.
DEFAULTS = {
    "coordinates": None, "predicts": "power", "stepped_because": UNKNOWN, "keeps_pace": False, "step_length": None,
    "native": None, "undecayed_because": None, "weight_decay": lambda rule, block: None,
    "displacement": lambda rule, gradient, state, step: None,
}  # fmt: skip
ALLOWED = {"coordinates": (None, "primal", "full"), "predicts": ("power", "inverse-log")}
COMPOSED = ("per-block", "decayed", "sam", "optax")  # made of other rules, or of what another library calls a rule


def check_class(rule: Any) -> None:
    """Refuse a class whose objects would be no rules, and name what is missing; see `jaxsim.rules.Rule`.

    Raises:
        ValueError: where something is missing.
    """
    if not isinstance(rule, type):
        raise ValueError(f"rule: expected the class of a rule, such as jaxsim.rules.NGD; got {rule!r}")
    needs("rule", rule, *METHODS)
    _hold(rule, rule)
    if _is_leaf(object.__new__(rule)):
        raise ValueError(f"rule: {_no_pytree(rule)}")


def check_rule(rule: Any) -> None:
    """Refuse what is no rule, and name what is missing; a class that does not say `coordinates` or `predicts` is given
    the defaults.

    Raises:
        ValueError: where something is missing.
    """
    if isinstance(rule, type) or not hasattr(rule, "update"):
        raise ValueError(f"rule: expected a rule such as jaxsim.rules.NGD(0.1); got {rule!r}")
    needs("rule", rule, *METHODS)
    _hold(rule, type(rule))
    if _is_leaf(rule):
        raise ValueError(f"rule: {_no_pytree(rule)}")
    one_each("rule", rule)
    for value in jax.tree.leaves(rule):
        kind = getattr(value, "dtype", None)
        if not (isinstance(value, int | float | np.ndarray | jax.Array) if kind is None else kind.kind in "biuf"):
            raise ValueError(
                f"rule: {called(rule)} has a parameter that is no number, {value!r}; declare what is not by "
                "jaxsim.rules.static(); see CONTRIBUTING.md"
            )


def numbers_first(rule: type) -> bool:
    """Whether one number makes the rule, as in NAME=STEP."""
    needed = [p for p in inspect.signature(rule).parameters.values() if p.default is inspect.Parameter.empty]
    return rule.name not in COMPOSED and len(needed) < 2  # type: ignore[attr-defined]


def _hold(rule: Any, owner: type) -> None:
    """Name, coordinates and rate law, which a class that is silent about them is given."""
    if not isinstance(getattr(rule, "name", None), str):
        raise ValueError(
            f'rule: {called(rule)} has no name; a rule needs one for tables and files, such as name = "my-rule"; '
            "see CONTRIBUTING.md"
        )
    for name, default in DEFAULTS.items():
        if not hasattr(owner, name):
            setattr(owner, name, default)
        value = getattr(rule, name)
        if name in ALLOWED and value not in ALLOWED[name] and not isinstance(value, property):
            words = " or ".join(map(repr, ALLOWED[name]))
            raise ValueError(f"rule: {called(rule)}.{name}: expected {words}; got {value!r}")


def _is_leaf(rule: Any) -> bool:
    """Whether JAX takes the object for a number."""
    try:
        leaves = jax.tree.leaves(rule)
    except Exception:  # an object without its fields, whose class JAX knows
        return False
    return len(leaves) == 1 and leaves[0] is rule


def _no_pytree(rule: Any) -> str:
    return (
        f"{called(rule)} is no pytree, so JAX cannot compile it; put @jaxsim.rules.pytree before its class, in place "
        "of any other decorator of dataclasses; see CONTRIBUTING.md"
    )


ALL_RULES = Registry("rule", "jaxsim.rules", check_class, reserved=COMPOSED)
register = ALL_RULES.register

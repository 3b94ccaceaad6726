"""What a data family is held against when it is registered."""

import inspect
from typing import Any

from jaxsim._registry import called
from jaxsim.problem import Problem


def check_family(family: Any) -> None:
    """Refuse what is no data family, and name what is missing.

    A family is a function that returns a `jaxsim.Problem`; equal arguments give equal problems. Its arguments are sizes
    and other plain values, with types in the annotations and defaults, from which studies and commands take them: n, T
    and d are called so. One called `key` is a JAX key, of which studies make a list of seeds; `jaxsim.data.generator`
    makes a stream of NumPy of it. Its name is that of the function, with dashes. Register it by `@jaxsim.register`.

    Raises:
        ValueError: where something is missing.
    """
    if not inspect.isroutine(family):
        raise ValueError(f"data: expected a function that returns a jaxsim.Problem; got {family!r}")
    for name, parameter in inspect.signature(family).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ValueError(
                f"data: {called(family)} takes {parameter}; a family needs arguments with names; see CONTRIBUTING.md"
            )
        if name != "key" and parameter.default is parameter.empty:
            raise ValueError(
                f"data: {called(family)} has no default for {name}; a family needs one for every argument but key; "
                "see CONTRIBUTING.md"
            )
    if not gives_problem(family):
        raise ValueError(
            f"data: {called(family)} does not say what it returns; a family needs the annotation -> jaxsim.Problem; "
            "see CONTRIBUTING.md"
        )


def gives_problem(function: Any) -> bool:
    """Whether a function says that it returns a problem."""
    said = getattr(function, "__annotations__", {}).get("return")
    return said is Problem or (isinstance(said, str) and said.rpartition(".")[2].strip("\"'") == "Problem")

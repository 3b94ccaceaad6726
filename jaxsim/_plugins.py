"""Members from outside the package: `jaxsim.register`, and modules that are imported because they register some."""

import functools
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from jaxsim import data, init, rules, train
from jaxsim._registry import Registry, called, file_of
from jaxsim.data.contract import gives_problem

T = TypeVar("T")
Kind = Literal["rule", "law", "data", "train"]
REGISTRIES: dict[str, Registry] = {
    "rule": rules.ALL_RULES, "law": init.LAWS, "data": data.FAMILIES, "train": train.KINDS,
}  # fmt: skip
SIGNS = {"rule": "update", "law": "place", "train": "model"}  # the method by which a class of each kind is known


@overload
def register(thing: T, *, kind: Kind | None = None, name: str | None = None) -> T: ...


@overload
def register(*, kind: Kind | None = None, name: str | None = None) -> Callable[[T], T]: ...


def register(thing: Any = None, *, kind: Kind | None = None, name: str | None = None) -> Any:
    """Make a rule, a law, a data family or a trained thing of one's own known by name to studies and commands.

    Also a decorator: `@jaxsim.register`, or `@jaxsim.register(name="mine")`.

    Args:
        thing: the class of a rule (it has `update`), of a law (`place`) or of a trained thing (`model`), or a function
            that returns a `jaxsim.Problem`.
        kind: "rule", "law", "data" or "train", where it cannot be told by these signs.
        name: by default the attribute `name`, or the name of the class or function with dashes.

    Returns:
        The thing itself.

    Raises:
        ValueError: where it breaks its contract, with the piece that is missing; or the name is another member's.

    Example:
        >>> import jax, jaxsim
        >>> @jaxsim.register
        ... @jaxsim.rules.pytree
        ... class HalfSphere:
        ...     radius: float = 1.0
        ...     def place(self, xi, rest):
        ...         return jaxsim.init.Sphere(self.radius / 2).place(xi, rest)
        >>> jaxsim.init.LAWS["half-sphere"] is HalfSphere
        True
        >>> jaxsim.init.LAWS.forget("half-sphere")
    """
    if thing is None:
        return functools.partial(register, kind=kind, name=name)
    found = _kind_of(thing) if kind is None else kind
    if found not in REGISTRIES:
        raise ValueError(f"kind: expected {', '.join(REGISTRIES)}; got {kind!r}")
    return REGISTRIES[found].register(thing, name)


def _kind_of(thing: Any) -> str:
    """Which kind a thing is, by what it has."""
    if isinstance(thing, type):
        found = [kind for kind, sign in SIGNS.items() if callable(getattr(thing, sign, None))]
        if len(found) == 1:
            return found[0]
    elif inspect.isroutine(thing):
        if not gives_problem(thing):
            raise ValueError(
                f"register: {called(thing)} does not say what it returns; a data family needs the annotation "
                "-> jaxsim.Problem; see CONTRIBUTING.md"
            )
        return "data"
    raise ValueError(
        "register: expected the class of a rule (with update), of a law (place) or of a trained thing (model), or a "
        f"function that returns a jaxsim.Problem; got {thing!r}"
    )


def load(module: str) -> None:
    """Import a module that registers members: one by name, from the current folder too, or a .py file by its path.

    Raises:
        ValueError: where it cannot be imported, or registers nothing.
    """
    before = _outside()
    try:
        found = _from_file(Path(module)) if module.endswith(".py") else _by_name(module)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"plugin: cannot import {module!r}: {type(error).__name__}: {reason}") from error
    own = (found.__name__, f"{found.__name__}.")
    sources = (registry.source(name) or {} for registry in REGISTRIES.values() for name in registry.outside())
    named = [str(source.get("module")) for source in sources]
    if _outside() == before and not any(name == own[0] or name.startswith(own[1]) for name in named):
        where = getattr(found, "__file__", None) or module
        raise ValueError(
            f"plugin: {module!r} registers nothing; expected a module that calls jaxsim.register (read: {where})"
        )


def locations(sources: Iterable[dict[str, Any]]) -> list[tuple[str, str | None]]:
    """Name and file of the modules among some sources, for workers to import."""
    names = dict.fromkeys(str(source["module"]) for source in sources if "module" in source)
    main = file_of("__main__")
    files = {name: file_of(name) or (main if main is not None and main.stem == name else None) for name in names}
    for name, file in files.items():
        if file is None and not _importable(name):
            raise ValueError(
                f"workers: members of {name!r} are not in any file; expected a module that workers can import"
            )
    return [(name, None if file is None else os.fspath(file.absolute())) for name, file in files.items()]


def load_again(places: Iterable[tuple[str, str | None]]) -> None:
    """On a worker: import the modules that `locations` told, by name, or else from their files."""
    for name, file in places:
        known = (registry.source(member) or {} for registry in REGISTRIES.values() for member in registry.outside())
        if any(source.get("module") == name for source in known):
            continue
        if file is not None and Path(file).is_file() and not _importable(name):
            _from_file(Path(file), name)
        else:
            importlib.import_module(name)


def _outside() -> set[tuple[str, str]]:
    return {(kind, name) for kind, registry in REGISTRIES.items() for name in registry.outside()}


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _by_name(module: str) -> Any:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # at the end: what is installed is not hidden
    importlib.invalidate_caches()
    return importlib.import_module(module)


def _from_file(path: Path, name: str | None = None) -> Any:
    """A module from a file, known by the file's name."""
    name = path.stem if name is None else name
    loaded = sys.modules.get(name)
    if loaded is not None:
        if (there := file_of(name)) is not None and there.absolute() == path.absolute():
            return loaded
        raise ImportError(f"another module is called {name!r}, from {there}")
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None or spec.loader is None:
        raise ImportError(f"{os.fspath(path)!r} is no module")
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    try:
        spec.loader.exec_module(found)
    except BaseException:
        del sys.modules[name]
        raise
    return found

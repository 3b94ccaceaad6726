"""One registry per kind of thing that people add: its members by name, and where each of them came from.

A registry is a mapping in order of registration. Members that installed packages announce, by entry points of its
group, are loaded when the registry is first looked at.
"""

import hashlib
import importlib.metadata
import inspect
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Source = dict[str, str | None]


class Registry(Mapping[str, Any]):
    """Members of one kind, by name.

    Args:
        kind: what a member is called in messages, such as "rule".
        group: the group of entry points by which packages announce members.
        check: raises the ValueError that names what a candidate lacks.
        noun: what a member is called in a sentence; by default the kind.
        reserved: names that no member may have.
    """

    def __init__(
        self, kind: str, group: str, check: Callable[[Any], None], reserved: tuple[str, ...] = (), noun: str = ""
    ):
        self.kind, self.group, self.check, self.reserved, self.noun = kind, group, check, reserved, noun or kind
        self.left_out: dict[str, str] = {}  # announced by packages, with why it could not be taken
        self._members: dict[str, Any] = {}
        self._sources: dict[str, Source | None] = {}
        self._lock = threading.RLock()
        self._asked = False

    def register(self, member: T, name: str | None = None, source: Source | None = None) -> T:
        """Add a member and give it back, so that this decorates classes and functions.

        Args:
            member: a class, or for data families a function.
            name: its name; by default its attribute `name`, or the name of the class or function, with dashes.
            source: where it came from; by default the module that defines it.

        Raises:
            ValueError: where it lacks something that its kind needs, or its name is taken by another member.
        """
        self.check(member)
        name = dashed(member) if name is None else name
        if not re.fullmatch(r"[A-Za-z][\w.-]*", name):
            raise ValueError(f"{self.kind}: expected a name of letters, digits and dashes; got {name!r}")
        with self._lock:
            taken = self._members.get(name)
            if name in self.reserved or not (taken is None or taken is member or _again(taken, member)):
                raise ValueError(f"{self.kind}: the name {name!r} is taken{_of(taken)}; expected another name")
            self._members[name] = member
            if taken is not member or source is not None:
                self._sources[name] = source or source_of(member)
        return member

    def forget(self, name: str) -> None:
        """Take a member out, so that its name is free again."""
        with self._lock:
            if name not in self:
                raise ValueError(f"{self.kind}: expected one of {', '.join(self)}; got {name!r}")
            del self._members[name], self._sources[name]

    def source(self, name: str) -> Source | None:
        """Where a member came from: None for the package's own; distribution and version; or module and its sha256."""
        return self._complete()._sources[name]

    def outside(self) -> list[str]:
        """The names of members that came from outside the package."""
        self._complete()
        return [name for name, source in self._sources.items() if source is not None]

    def how_to_register(self, name: str | None = None) -> str:
        """What to do about a name that nobody registered, in words for a message."""
        if name in self.left_out:
            return f"its package announces {name!r}, but {self.left_out[name]}"
        return f"a {self.noun} of one's own is made known by jaxsim.register, --plugin MODULE or an installed package"

    def __getitem__(self, name: str) -> Any:
        """The member of that name."""
        return self._complete()._members[name]

    def __iter__(self) -> Iterator[str]:
        """Names, in order of registration."""
        return iter(list(self._complete()._members))

    def __len__(self) -> int:
        """How many members there are."""
        return len(self._complete()._members)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """Both together, as a dictionary."""
        return {**self, **other}

    def __repr__(self) -> str:
        return f"Registry({self.kind}: {', '.join(self)})"

    def _complete(self) -> "Registry":
        """The registry itself, with what installed packages announce."""
        with self._lock:
            if not self._asked:
                self._asked = True
                for entry in importlib.metadata.entry_points(group=self.group):
                    self._take(entry)
        return self

    def _take(self, entry: importlib.metadata.EntryPoint) -> None:
        """One announced member; one that cannot be taken is told and left out, and stops nobody else."""
        package = entry.dist
        named = "a package" if package is None else f"{package.name} {package.version}"
        try:
            member = entry.load()
            source: Source | None = None
            if package is not None:
                source = {"distribution": package.name, "version": package.version}
            self.register(member, entry.name, source)
        except Exception as error:  # of code that is not ours
            self.left_out[entry.name] = f"it could not be loaded from {named}: {' '.join(str(error).split())}"
            warnings.warn(f"{self.kind}: {entry.name!r} is left out; {self.left_out[entry.name]}", stacklevel=2)


class Part(Mapping[str, Any]):
    """The members of a registry of which something holds.

    Args:
        registry: all members.
        chosen: tells of a member whether it belongs here.
    """

    def __init__(self, registry: Registry, chosen: Callable[[Any], bool]):
        self._registry, self._chosen = registry, chosen

    def __getitem__(self, name: str) -> Any:
        """The member of that name."""
        if not self._chosen(member := self._registry[name]):
            raise KeyError(name)
        return member

    def __iter__(self) -> Iterator[str]:
        """Names, in order of registration."""
        return (name for name, member in self._registry.items() if self._chosen(member))

    def __len__(self) -> int:
        """How many members there are."""
        return sum(map(self._chosen, self._registry.values()))

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """Both together, as a dictionary."""
        return {**self, **other}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self)})"


def needs(kind: str, member: Any, *names: str, noun: str = "") -> None:
    """Refuse a member of which a method is missing, or something else that its kind needs."""
    for name in names:
        if not callable(getattr(member, name, None)):
            wanted = f"a {noun or kind} needs {_listed(names)}"
            raise ValueError(f"{kind}: {called(member)} has no method {name}; {wanted}; see CONTRIBUTING.md")


def called(member: Any) -> str:
    """The name by which a message calls a class, a function or an object of a class."""
    return getattr(member, "__name__", type(member).__name__)


def dashed(member: Any) -> str:
    """The attribute `name` of a member, or the name of the class or function in lower case with dashes."""
    name = getattr(member, "name", None)
    if isinstance(name, str):
        return name
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", called(member)).replace("_", "-").lower()


def source_of(member: Any) -> Source | None:
    """None for the package's own; otherwise the module that defines a member, and the sha256 of its file.

    Of a member that a notebook defines it is that of the text of its definition, where that can be found.
    """
    name = getattr(member, "__module__", None) or "__main__"
    if name.partition(".")[0] == "jaxsim":
        return None
    file = file_of(name)
    if file is None or not file.is_file():
        return {"module": name, "sha256": _sha256_at_prompt(member)}
    script = name in ("__main__", "__mp_main__")
    return {"module": file.stem if script else name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _sha256_at_prompt(member: Any) -> str | None:
    try:
        return hashlib.sha256(inspect.getsource(member).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def file_of(module: str) -> Path | None:
    """The source file of a module that is loaded."""
    try:
        return Path(inspect.getsourcefile(sys.modules[module]) or "")
    except (KeyError, TypeError):  # made at a prompt
        return None


def _again(taken: Any, member: Any) -> bool:
    """Whether a cell of a notebook, or a line at a prompt, is run again."""
    same = taken.__module__ == member.__module__ == "__main__" and taken.__qualname__ == member.__qualname__
    return same and file_of("__main__") is None


def _of(member: Any) -> str:
    return "" if member is None else f" by {member.__module__}.{called(member)}"


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

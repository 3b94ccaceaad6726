"""Where the members of a study came from that are not the package's own, and what differs between two studies."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxsim.study.tables import REGISTRIES, TAGS


def sources_of(study: Mapping[str, Any]) -> dict[str, Any] | None:
    """Distribution and version, or module and sha256, of every member from outside that a study names; None for none.

    Args:
        study: its tables, by the names of the parts: of problem, init and rule lists, of train one as plain values.
    """
    found: dict[str, Any] = {}
    for part, name in _named(study):
        registry = REGISTRIES[part]
        if name in registry and (source := registry.source(name)) is not None:
            found.setdefault(part, {})[name] = dict(source)
    return found or None


def missing(sources: Any) -> list[str]:
    """The members from outside that a study recorded and nobody has registered here, in words."""
    return [
        f"{name} of {' '.join(str(v) for k, v in source.items() if k != 'sha256')}"
        for part, members in (sources or {}).items()
        for name, source in members.items()
        if part in REGISTRIES and name not in REGISTRIES[part]
    ]


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """What differs between two plain structures, one line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        return [d for name in names for d in differences(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))]
    if isinstance(old, list) and isinstance(new, list) and any(isinstance(v, dict) for v in old + new):
        pairs = zip(old + [None] * (len(new) - len(old)), new + [None] * (len(old) - len(new)), strict=True)
        return [d for k, (a, b) in enumerate(pairs) for d in differences(a, b, f"{key}[{k}]")]
    return [] if old == new else [f"{key}: {shown(old)} there, {shown(new)} here"]


def shown(value: Any) -> str:
    """A value in a message: not more of it than a line has room for."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _named(study: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for part in ("problem", "init", "rule"):
        for entry in study.get(part) or []:
            yield part, getattr(entry, TAGS[part])
            for rules in getattr(entry, "rules", []) if part == "rule" else []:
                for rule in rules:
                    yield "rule", rule["name"]
    if study.get("train"):
        yield "train", study["train"]["kind"]

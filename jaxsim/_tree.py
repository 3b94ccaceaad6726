"""Frozen dataclasses that JAX can trace: one decorator, used by every state, model and rule."""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax

T = TypeVar("T")


def static(**kwargs: Any) -> Any:
    """Declare a field that is part of the compiled program rather than an array."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def pytree(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a pytree; fields made with `static` are compile-time constants."""
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    constant = [f.name for f in fields if f.metadata.get("static", False)]
    arrays = [f.name for f in fields if f.name not in constant]
    jax.tree_util.register_dataclass(cls, data_fields=arrays, meta_fields=constant)
    return cls

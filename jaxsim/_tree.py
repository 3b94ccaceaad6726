"""Frozen dataclasses that JAX can trace: one decorator, used by every state, model, law and rule."""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

import jax
import numpy as np

T = TypeVar("T")

if TYPE_CHECKING:
    Part = jax.Array
else:
    Part = jax.Array | np.ndarray  # of a model: made on the host, and brought to the device before it is used


def static(**kwargs: Any) -> Any:
    """Declare a field that is part of the compiled program rather than an array."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def pytree(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a pytree; fields made with `static` are compile-time constants.

    The class is part of the tree's static data. jax.tree_util.register_dataclass does not do that: in jax 0.10.2 the
    tree structures of two registered dataclasses with like fields compare equal, and a compiled program may then be
    taken for another's.
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    constant = [f.name for f in fields if f.metadata.get("static", False)]
    arrays = [f.name for f in fields if f.name not in constant]

    def flatten(tree):
        return [getattr(tree, name) for name in arrays], (cls, *(getattr(tree, name) for name in constant))

    def unflatten(data, leaves):
        tree = object.__new__(cls)  # no __post_init__: leaves may be tracers or placeholders
        for name, value in zip(arrays + constant, [*leaves, *data[1:]], strict=True):
            object.__setattr__(tree, name, value)
        return tree

    jax.tree_util.register_pytree_node(cls, flatten, unflatten)
    return cls

"""What a rule is: a frozen pytree with `init` and `update`, and step sizes that are numbers or schedules."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsim._check import positive_number
from jaxsim._tree import pytree, static
from jaxsim.model.gradient import Gradient, Tree

Step = Int[Array, ""]


class Rule(Protocol):
    """A step-size rule. It sees scaled gradients and never the model behind them.

    The last axis of every array runs over lanes, and no operation mixes lanes.
    """

    @property
    def name(self) -> str:
        """The short name used in tables, files and figures."""
        ...

    def init(self, params: Tree) -> Tree:
        """The rule's own state at step 0."""
        ...

    def update(self, gradient: Gradient, state: Tree, step: Step) -> tuple[tuple[Tree, ...], Tree]:
        """The increment of each block of parameters at this step, and the next state."""
        ...

    def report(self, state: Tree) -> dict[str, Float[Array, " lanes"]]:
        """Per-lane diagnostics of the whole run."""
        ...


@pytree
class Constant:
    """A step size that does not change."""

    value: Any

    def __call__(self, step: Step, dtype: Any):
        """The value."""
        return self.value

    def __repr__(self):
        return repr(self.value).removesuffix(".0")


@pytree
class Scheduled:
    """A step size given by an optax schedule, or any traceable function of the step number."""

    schedule: Callable[[Step], Any] = static()

    def __call__(self, step: Step, dtype: Any):
        """The schedule at `step`, in the run's dtype."""
        return jnp.asarray(self.schedule(step)).astype(dtype)

    def __repr__(self):
        return getattr(self.schedule, "__qualname__", "schedule")


def step_size(name: str, value: Any) -> Any:
    """Turn what a user gives into a Constant or a Scheduled; leave what JAX rebuilds alone."""
    traced = isinstance(value, jax.core.Tracer)  # type: ignore[attr-defined]
    if isinstance(value, bool | int | float | str) or (hasattr(value, "__array__") and not traced):
        return Constant(positive_number(name, value))
    if callable(value) and not isinstance(value, Constant | Scheduled):
        return Scheduled(value)
    return value


def times(factor: Float[Array, " lanes"], tree: Tree) -> Tree:
    """Factor · tree, lane by lane."""
    return jax.tree.map(lambda leaf: factor * leaf, tree)


class Stateless:
    """For rules that remember nothing."""

    def init(self, params: Tree) -> Tree:
        """No state."""
        return ()

    def report(self, state: Tree) -> dict[str, Float[Array, " lanes"]]:
        """Nothing to report."""
        return {}


def zeros_per_lane(params: Tree) -> Float[Array, " lanes"]:
    """One zero per lane, in the dtype of the parameters."""
    leaf = jax.tree.leaves(params)[0]
    return jnp.zeros_like(leaf, shape=leaf.shape[-1:])

"""What a rule is: a frozen pytree with `init` and `update`, and step sizes that are numbers or schedules."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Real

from jaxsim._check import finite_number, positive_number
from jaxsim._numbers import Axis, numbers
from jaxsim._tree import pytree, static
from jaxsim.model.gradient import Block, Gradient, Tree
from jaxsim.rules.contract import UNKNOWN, register
from jaxsim.rules.optax_by_name import Named

__all__ = [
    "Constant", "Defaults", "Rule", "Scaled", "Scheduled", "Stateless", "Step", "WeightDecay", "decay",
    "mix", "pytree", "register", "static", "step_size", "times", "zeros_per_lane",
]  # fmt: skip

AT_ONCE = 2**16  # steps of a schedule that are looked at together
Step = Int[Array, ""] | Float[Array, " lanes"]  # of a leap, whose lanes each have made their own


class Rule(Protocol):
    """A step-size rule. It sees scaled gradients and never the model behind them.

    The last axis of every array runs over lanes, and no operation mixes lanes.

    For those who write one: a rule is a class decorated with `pytree`, so that its parameters are leaves and a sweep
    does not compile again; a parameter that is no number is declared by `static()`. Required are `name`, `init`,
    `update` and `report`. `coordinates`, `predicts`, `stepped_because`, `keeps_pace`, `step_length`, `native`,
    `undecayed_because`, `weight_decay` and `displacement` may be left out; `Defaults` says them, and that there is
    nothing to report, and `Stateless` says in addition that nothing is remembered. Arguments are kept in attributes of
    their names, from which tables, files and studies take them. Register the class by `@jaxsim.register`.
    """

    @property
    def name(self) -> str:
        """The short name used in tables, files and figures."""
        ...

    @property
    def coordinates(self) -> str | None:
        """What the rule acts on.

        None: combinations of gradients, which are the same in any coordinates; "primal": the core of W, up to
        rotations of tokens and queries; "full": the entries of W.
        """
        ...

    @property
    def predicts(self) -> str:
        """The law by which direction errors fall, which tables fit: "power" of the step, or "inverse-log"."""
        ...

    @property
    def stepped_because(self) -> str | None:
        """Why its increments do not come to change slowly, so that every step has to be made; None where they do.

        They do where steps shrink as fast as gradients do, and what the rule remembers changes as slowly as W; or
        where the rule `keeps_pace`.
        """
        ...

    @property
    def keeps_pace(self) -> bool:
        """Whether its increments tend to a constant, not to zero, so that its lanes go on in strides."""
        ...

    @property
    def step_length(self) -> float | None:
        """The Frobenius norm of every step, where all have the same; None for other rules."""
        ...

    @property
    def native(self) -> tuple[str, tuple[Any, ...]] | None:
        """The name of the rule in machine code, and the numbers and step sizes that it is given there; None where
        there is none.
        """
        ...

    @property
    def undecayed_because(self) -> str | None:
        """Why weight decay cannot be added to its increments, in a sentence; None where it can."""
        ...

    def weight_decay(self, block: int) -> "WeightDecay | None":
        """What is taken away of a block of parameters in every step; None where nothing is."""
        ...

    def displacement(self, gradient: Gradient, state: Tree, step: Step) -> tuple[Tree, ...] | None:
        """How far from W the gradient is to be taken that `update` sees, as increments of every block.

        None where it is that at W, the one given here. The driver takes the other one, which costs as much again. Of
        minibatches both are of the same sequences.
        """
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


class Defaults:
    """What a rule need not say itself: it runs in any coordinates, predicts a power law and has nothing to report."""

    coordinates: str | None = None
    predicts: str = "power"
    stepped_because: str | None = UNKNOWN
    keeps_pace: bool = False
    step_length: float | None = None
    native: tuple[str, tuple[Any, ...]] | None = None
    undecayed_because: str | None = None

    def weight_decay(self, block: int) -> "WeightDecay | None":
        """Nothing is taken away."""
        return None

    def displacement(self, gradient: Gradient, state: Tree, step: Step) -> tuple[Tree, ...] | None:
        """The gradient is that at W."""
        return None

    def report(self, state: Tree) -> dict[str, Float[Array, " lanes"]]:
        """Nothing to report."""
        return {}


class Stateless(Defaults):
    """For rules that remember nothing."""

    def init(self, params: Tree) -> Tree:
        """No state."""
        return ()


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
        named = isinstance(self.schedule, Named)
        return repr(self.schedule) if named else getattr(self.schedule, "__qualname__", "schedule")


@pytree
class WeightDecay:
    """Decoupled weight decay: in every step the share η λ of the parameters is taken away, beside the rule's increment.

    The driver does that; a rule sees no parameters. λ is `rate`, and η the step size `eta` of the rule.
    """

    eta: Constant | Scheduled
    rate: Any

    def __call__(self, step: Step, dtype: Any):
        """The share η λ at `step`."""
        return self.eta(step, dtype) * self.rate

    def log_left(self, steps: Real[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
        """For every k of `steps` log Π_{j<k} (1 - η_j λ): what has been left by then of where a lane began.

        Raises:
            ValueError: where a step takes all away, or more.
        """
        if isinstance(self.eta, Constant):
            return steps * np.log1p(-float(self.eta.value * self.rate))
        known, total, begun = {0: 0.0}, 0.0, 0
        real = jnp.float64 if jax.config.jax_enable_x64 else jnp.float32  # type: ignore[attr-defined]
        for end in np.unique(steps).tolist():
            while begun < end:
                index = jnp.arange(begun, min(end, begun + AT_ONCE), dtype=jnp.int32)
                share = np.asarray(jax.vmap(lambda k: self(k, real))(index), np.float64)
                if not share.max() < 1:
                    raise ValueError(f"rate: expected less than 1/η at every step; got {self.rate!r}")
                total, begun = total + np.log1p(-share).sum(), begun + len(index)
            known[end] = total
        return np.array([known[step] for step in steps.tolist()])


def step_size(name: str, value: Any) -> Any:
    """Turn what a user gives into a Constant, a Scheduled or, of several, an Axis; leave what JAX rebuilds alone.

    Raises:
        ValueError: where it is neither a number above 0, nor several, nor a function.
    """
    if isinstance(value, Constant | Scheduled | jax.core.Tracer):  # type: ignore[attr-defined]
        return value
    if callable(value):
        return Scheduled(value)
    size = numbers(name, value, positive_number)
    return size if isinstance(size, Axis) else Constant(size)


def times(factor: Float[Array, " lanes"], tree: Tree) -> Tree:
    """Factor · tree, lane by lane."""
    return jax.tree.map(lambda leaf: factor * leaf, tree)


@pytree
class Scaled:
    """A tree with a log scale per lane, a whole number: what it stands for is exp(log_scale) · tree.

    `slack` says about how far the tree has decayed below order one since its scale was chosen.
    """

    tree: Tree
    log_scale: Float[Array, " lanes"]
    slack: Float[Array, " lanes"]

    @staticmethod
    def zero(block: Tree) -> "Scaled":
        """Zero, in the shape of a block of parameters."""
        nothing = zeros_per_lane(block)
        return Scaled(jax.tree.map(jnp.zeros_like, block), jnp.full_like(nothing, -jnp.inf), nothing)


def mix(memory: Scaled, rest: Any, block: Block) -> Scaled:
    """β · memory + ∇ with β = 1 - rest, so that neither underflows however much gradients shrink.

    Scales are whole numbers, like those of gradients: their differences are exact however large they are. They follow
    the gradient upwards, and downwards the memory as it decays. β m is taken as m - rest · m, because a β near 1
    rounded to few digits forgets at another rate.
    """
    rest = jnp.asarray(rest, memory.log_scale.dtype)
    decayed = memory.slack + jnp.log1p(-rest)
    down = jnp.maximum(jnp.trunc(decayed), -64.0)
    kept = memory.log_scale + down
    scale = jnp.maximum(kept, block.log_scale)
    still = scale == -jnp.inf  # no gradient so far
    old = jnp.where(still, 0.0, jnp.exp(memory.log_scale - scale))
    new = jnp.where(still, 0.0, jnp.exp(block.log_scale - scale))
    tree = jax.tree.map(lambda m, g: old * (m - rest * m) + new * g, memory.tree, block.direction)
    return Scaled(tree, scale, jnp.where(scale > kept, 0.0, decayed - down))


def decay(name: str, value: Any) -> float:
    """A number from 0 to below 1."""
    number = finite_number(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name}: expected a number from 0 to below 1; got {value}")
    return number


def zeros_per_lane(params: Tree) -> Float[Array, " lanes"]:
    """One zero per lane, in the dtype of the parameters."""
    leaf = jax.tree.leaves(params)[0]
    return jnp.zeros_like(leaf, shape=leaf.shape[-1:])

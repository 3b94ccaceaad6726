"""What makes the steps: programs of XLA, of any model under any rule, or something faster, of some."""

from typing import Any, Protocol

from jaxtyping import Array, Float, Int

from jaxsim.driver import formulas, generator, steps
from jaxsim.driver.steps import State
from jaxsim.model.gradient import Tree
from jaxsim.rules.base import Rule, Step


class Engine(Protocol):
    """What makes steps. Compiled programs are kept by it, so there is one object of each kind.

    What happens in one lane does not depend on the others.
    """

    @property
    def name(self) -> str:
        """What results call it."""
        ...

    def many(
        self, model: Any, rule: Rule, state: State, residual: tuple[Tree, ...] | None, first: Step, count: Step
    ) -> tuple[State, tuple[Tree, ...] | None]:
        """The state after `count` steps of all lanes, and what rounding has left out of the parameters.

        That is None where nothing is kept of it.
        """
        ...

    def some(
        self, model: Any, rule: Rule, state: State, first: Float[Array, " lanes"], counts: Int[Array, " lanes"]
    ) -> State:
        """The state after as many steps of every lane as are asked for; see `steps.some`."""
        ...

    def flow(
        self,
        model: Any,
        rule: Rule,
        state: State,
        step: Float[Array, " lanes"],
        orders: tuple[Int[Array, " lanes"], ...],
        doubt: bool,
    ) -> list[tuple[State, Float[Array, " lanes"]]]:
        """The flow that the iterates are samples of; see `generator.generator`."""
        ...

    def leap(
        self,
        model: Any,
        rule: Rule,
        state: State,
        slope: State,
        scale: Float[Array, " lanes"],
        sigma: Float[Array, " lanes"],
        made: Float[Array, " lanes"],
        order: Int[Array, " lanes"],
    ) -> tuple[State, Float[Array, " lanes"], Float[Array, " lanes"]]:
        """The state some way along that flow, and the sizes of the two errors; see `formulas.along`."""
        ...


class Xla:
    """Programs of XLA."""

    name = "xla"

    def many(self, model, rule, state, residual, first, count):
        """See Engine."""
        if residual is None:
            return steps.plain(model, rule, state, first, count), None
        return steps.compensated(model, rule, state, residual, first, count)

    def some(self, model, rule, state, first, counts):
        """See Engine."""
        return steps.some(model, rule, state, first, counts)

    def flow(self, model, rule, state, step, orders, doubt):
        """See Engine."""
        return generator.generator(model, rule, state, step, orders, doubt)

    def leap(self, model, rule, state, slope, scale, sigma, made, order):
        """See Engine."""

        def flow(here, at):
            return self.flow(model, rule, here, at, (order,), False)[0][0]

        return formulas.along(flow, state, slope, scale, sigma, made)


XLA = Xla()

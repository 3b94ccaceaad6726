"""What makes the steps: programs of XLA, of any model under any rule, or something faster, of some."""

from typing import Any, Protocol

from jaxtyping import Array, Float, Int

from jaxsim.driver import leap, steps
from jaxsim.driver.lanes import Lanes
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
    ) -> tuple[State, State]:
        """The state after as many steps of every lane as are asked for, and the first increments, which are those of
        lanes that make none too; see `steps.some`.
        """
        ...

    def leap(self, model: Any, rule: Rule, lanes: Lanes, marks: Float[Array, " R"]) -> Lanes:
        """Slow lanes some leaps further; see `leap.leap`."""
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

    def leap(self, model, rule, lanes, marks):
        """See Engine."""
        return leap.leap(model, rule, lanes, marks)


XLA = Xla()

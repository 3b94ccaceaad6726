"""What rules around another rule have in common: but for what they add, they are that rule."""

from typing import Any

from jaxsim._numbers import points
from jaxsim.rules.contract import check_rule


class Around:
    """A rule that holds one other, as `rule`, and does as that one does."""

    rule: Any

    @property
    def coordinates(self):
        """Those of the rule."""
        return self.rule.coordinates

    def displacement(self, gradient, state, step):
        """The rule's own."""
        return self.rule.displacement(gradient, state, step)

    def init(self, params):
        """The rule's own."""
        return self.rule.init(params)

    def update(self, gradient, state, step):
        """The rule's own."""
        return self.rule.update(gradient, state, step)

    def report(self, state):
        """The rule's own."""
        return self.rule.report(state)


def check_inner(rule: Any) -> None:
    """Refuse what is no rule, in the name of the argument `rule`."""
    if isinstance(rule, type) or not hasattr(rule, "update"):
        raise ValueError(f"rule: expected a rule such as jaxsim.rules.NGD(0.1); got {rule!r}")
    check_rule(points(rule)[0])

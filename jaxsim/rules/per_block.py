"""A rule of its own for every block of parameters."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxsim._tree import pytree
from jaxsim.rules.contract import check_rule


@pytree
class PerBlock:
    """One rule per block of parameters, each seeing its own gradient and the common loss gap.

    For joint training the blocks are W and u, for key-query training K and Q. A rule without PerBlock sees all blocks:
    NGD normalises each on its own, Polyak shares one step among them.

    Args:
        *rules: one rule per block, in order.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.PerBlock(jaxsim.rules.NGD(0.1), jaxsim.rules.GD(0.5))
        PerBlock(NGD(eta=0.1), GD(eta=0.5))
    """

    rules: Any

    name = "per-block"

    def __init__(self, *rules: Any):
        for k, rule in enumerate(rules):
            if isinstance(rule, type) or not hasattr(rule, "update"):
                raise ValueError(f"rules: expected rules such as jaxsim.rules.NGD(0.1); rule {k} is {rule!r}")
            check_rule(rule)
        if not rules:
            raise ValueError("rules: expected one rule per block; got none")
        object.__setattr__(self, "rules", tuple(rules))

    def __repr__(self):
        return f"PerBlock({', '.join(map(repr, self.rules))})"

    @property
    def coordinates(self):
        """The strictest that one of the rules needs."""
        needed = {rule.coordinates for rule in self.rules}
        return next((kind for kind in ("full", "primal") if kind in needed), None)

    @property
    def predicts(self):
        """The law of the first block, which is W's in joint training."""
        return self.rules[0].predicts

    @property
    def stepped_because(self):
        """Why the first of the rules that cannot leap cannot."""
        if len({rule.keeps_pace for rule in self.rules}) == 2:
            return "increments of some of its blocks tend to zero, those of others do not"
        return next((rule.stepped_because for rule in self.rules if rule.stepped_because), None)

    @property
    def keeps_pace(self):
        """Whether all of the rules do."""
        return all(rule.keeps_pace for rule in self.rules)

    @property
    def step_length(self):
        """None: every block has a step of its own."""
        return None

    @property
    def native(self):
        """None: machine code is of one block."""
        return None

    @property
    def undecayed_because(self):
        """That of one with several step sizes."""
        return "its blocks have rules of their own: PerBlock(Decayed(…), …) decays each"

    def weight_decay(self, block):
        """That of the block's rule."""
        return self.rules[block].weight_decay(0)

    def displacement(self, gradient, state, step):
        """Each rule's own, from its own block."""
        moves = [
            rule.displacement(dataclasses.replace(gradient, blocks=(block,)), memory, step)
            for rule, block, memory in zip(self.rules, gradient.blocks, state, strict=True)
        ]
        if all(move is None for move in moves):
            return None
        still = (jax.tree.map(jnp.zeros_like, block.direction) for block in gradient.blocks)
        return tuple(rest if move is None else move[0] for rest, move in zip(still, moves, strict=True))

    def init(self, params):
        """Each rule's own memory."""
        if len(params) != len(self.rules):
            raise ValueError(f"rule: PerBlock has {len(self.rules)} rules; expected one per block, {len(params)}")
        return tuple(rule.init((block,)) for rule, block in zip(self.rules, params, strict=True))

    def update(self, gradient, state, step):
        """Each rule on its own block."""
        increments, memories = [], []
        for rule, block, memory in zip(self.rules, gradient.blocks, state, strict=True):
            (increment,), after = rule.update(dataclasses.replace(gradient, blocks=(block,)), memory, step)
            increments.append(increment)
            memories.append(after)
        return tuple(increments), tuple(memories)

    def report(self, state):
        """What each rule reports, numbered by block."""
        reports = [rule.report(memory) for rule, memory in zip(self.rules, state, strict=True)]
        return {f"{name}_{k}": value for k, report in enumerate(reports) for name, value in report.items()}

"""Our pytrees: equal structures mean equal classes, so no compiled program is taken for another's."""

import itertools

import jax
import jax.numpy as jnp

import jaxsim
from jaxsim._tree import pytree, static
from jaxsim.model import LOSSES
from jaxsim.rules import RULES


@pytree
class Up:
    x: float


@pytree
class Down:
    x: float
    label: str = static(default="down")


def test_rules_laws_and_losses_have_distinct_structures():
    laws = [jaxsim.init.Gaussian(1.0), jaxsim.init.Sphere(1.0), jaxsim.init.Zero()]
    for group in ([rule(0.1) for rule in RULES.values()], laws, list(LOSSES.values())):
        for one, other in itertools.combinations(group, 2):
            assert jax.tree.structure(one) != jax.tree.structure(other)


def test_equal_objects_share_a_structure():
    assert jax.tree.structure(jaxsim.rules.GD(0.1)) == jax.tree.structure(jaxsim.rules.GD(0.2))
    assert jax.tree.structure(Down(1.0)) != jax.tree.structure(Down(1.0, "other"))


def test_round_trip_and_tracing():
    tree = Down(jnp.ones(2), "kept")
    again = jax.tree.map(lambda leaf: 2 * leaf, tree)
    assert isinstance(again, Down) and again.label == "kept" and again.x.tolist() == [2.0, 2.0]
    assert jax.jit(lambda t: t.x.sum() if isinstance(t, Up) else -t.x.sum())(tree) == -2.0

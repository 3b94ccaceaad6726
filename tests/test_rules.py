"""Rules on their own: any rule must work on a quadratic bowl, and keep the protocol."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsim.driver.steps import advance, begin
from jaxsim.driver.trajectory import trajectory
from jaxsim.model import Block, Gradient
from jaxsim.rules import RULES


class Bowl:
    """½ xᵀ diag(h) x in plain coordinates, its gradient handed out with an arbitrary log scale."""

    def __init__(self, curvature, log_scale):
        self.curvature, self.log_scale = curvature, log_scale

    def enter(self, start):
        return ({"x": start},)

    def gradient(self, params, step=None):
        x = params[0]["x"]
        h, scale = self.curvature.astype(x.dtype)[:, None], jnp.asarray(self.log_scale, x.dtype)
        direction = h * x / jnp.exp(scale)
        norm = jnp.sqrt((direction * direction).sum(0))
        lanes = jnp.broadcast_to(scale, norm.shape)
        gap = 0.5 * (h * x * x).sum(0)
        return Gradient((Block({"x": direction}, lanes, norm),), gap, jnp.zeros_like(gap), jnp.zeros((), x.dtype))

    def observe(self, params):
        return {}

    def logits(self, params):
        return params[0]["x"]


def descend(rule, dtype, log_scale, steps, lanes=3):
    bowl = Bowl(jnp.array([1.0, 2.0, 4.0]), log_scale)
    start = jnp.asarray(np.random.default_rng(0).standard_normal((3, lanes)), dtype)
    state = begin(bowl, rule, start)
    step = jax.jit(lambda state, k: advance(bowl, rule, state, k)[0])
    for k in range(steps):
        state = step(state, jnp.asarray(k))
    return start, state, bowl.gradient(state.params).gap


def tree_signature(tree):
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", RULES)
def test_protocol(name, dtype):
    rule = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), RULES[name](0.1))
    bowl = Bowl(jnp.ones(3), 0.0)
    state = begin(bowl, rule, jnp.ones((3, 2), dtype))
    after, increments = advance(bowl, rule, state, jnp.asarray(0))
    assert jax.tree.structure(increments) == jax.tree.structure(state.params)
    assert tree_signature(after) == tree_signature(state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert all(v.shape == (2,) for v in rule.report(after.memory).values())
    assert rule.name == name and repr(RULES[name](0.1)).startswith(RULES[name].__name__)


@pytest.mark.parametrize("log_scale", [0.0, -20.0, 5.0])
@pytest.mark.parametrize("name", RULES)
def test_descends_whatever_the_scale_of_the_gradient(name, log_scale):
    eta = {"ngd": 0.01, "normalised-momentum": 0.01, "polyak": 1.0, "adagrad-norm": 2.0, "gd": 0.2}.get(name, 0.1)
    rule = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), RULES[name](eta))
    start, state, gap = descend(rule, jnp.float64, log_scale, 300)
    assert (gap < 1e-3 * 0.5 * (start**2).sum(0)).all()
    if name == "normalised-momentum":  # circles the minimum, where roundings grow
        _, state, _ = descend(rule, jnp.float64, log_scale, 60)
    _, same, _ = descend(rule, jnp.float64, 0.0, 60 if name == "normalised-momentum" else 300)
    np.testing.assert_allclose(state.params[0]["x"], same.params[0]["x"], rtol=1e-6, atol=1e-9)


def test_first_steps_are_the_textbook_ones():
    h = np.array([1.0, 2.0, 4.0])[:, None]
    for name, factor in [
        ("gd", lambda g, gap: 0.1),
        ("ngd", lambda g, gap: 0.1 / np.linalg.norm(g, axis=0)),
        ("polyak", lambda g, gap: 0.1 * gap / (g * g).sum(0)),
    ]:
        rule = jax.tree.map(jnp.asarray, RULES[name](0.1))
        start, state, _ = descend(rule, jnp.float64, -3.0, 1)
        x = np.asarray(start)
        g, gap = h * x, 0.5 * (h * x * x).sum(0)
        np.testing.assert_allclose(state.params[0]["x"], x - factor(g, gap) * g, rtol=1e-13)


def test_float32_is_accumulated_with_compensation():
    """A million steps of 1e-8 from 1: plain float32 does not move at all."""

    class Slope:
        def enter(self, start):
            return ({"x": start},)

        def gradient(self, params, step=None):
            one = jnp.ones_like(params[0]["x"])
            lane = jnp.ones(one.shape[-1], one.dtype)
            return Gradient((Block({"x": one}, 0 * lane, lane),), lane, 0 * lane, jnp.zeros((), one.dtype))

        def observe(self, params):
            return {"x": params[0]["x"]}

        def logits(self, params):
            return params[0]["x"]

    rule = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), RULES["gd"](1e-8))
    gaps = jnp.asarray([3, 10**6 - 3], jnp.int32)
    records, final, *_ = jax.jit(lambda start: trajectory(Slope(), rule, start, gaps))(jnp.ones((1, 1), jnp.float32))
    assert records["x"].shape == (2, 1, 1)
    assert float(final[0, 0]) == pytest.approx(1 - 1e-2, rel=2e-7)

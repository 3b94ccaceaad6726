"""Losses given as functions: the same trajectories as the built-in ones, gaps without cancellation, checks of input."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import jaxsim
from jaxsim.model.losses import Smooth

LOGISTIC = (lambda m: jnp.logaddexp(0.0, -m), lambda m: -1 / (1 + jnp.exp(m)))


@pytest.mark.parametrize("rule", [jaxsim.rules.NGD(0.1), jaxsim.rules.Polyak(max_step=1.0)], ids=lambda r: r.name)
def test_the_logistic_loss_written_by_hand(rule):
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    options = dict(key=jax.random.key(1), lanes=5, steps=400)
    law = jaxsim.init.Gaussian(0.5)
    ours = jaxsim.simulate(problem, rule, law, loss=Smooth(*LOGISTIC, "mine"), **options)
    theirs = jaxsim.simulate(problem, rule, law, **options)
    assert ours.settings["loss"] == "mine"
    np.testing.assert_allclose(ours.final_logits, theirs.final_logits, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.log10_gap, theirs.log10_gap, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("delta", [0.0, 1e-300, 1e-12, 1e-3, 0.5, 0.999, 1.001, 3.0])
@pytest.mark.parametrize("s", [-2.0, 0.3, 5.0])
def test_drop_against_many_digits(s, delta):
    arctangent = Smooth(lambda m: -jnp.arctan(m), lambda m: -1 / (1 + m * m))
    with mp.workdps(400):
        exact = (mp.atan(s) - mp.atan(mp.mpf(s) - mp.mpf(delta))) / delta if delta else 1 / (1 + mp.mpf(s) ** 2)
        assert abs(float(arctangent.drop(jnp.float64(s), jnp.float64(delta))) / float(exact) - 1) < 1e-12


def test_a_slowly_decreasing_loss_has_the_same_limit():
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    loss = Smooth(lambda m: -jnp.arctan(m), lambda m: -1 / (1 + m * m), "arctangent")
    run = jaxsim.simulate(
        problem, jaxsim.rules.NGD(0.1), jaxsim.init.Zero(), key=jax.random.key(1), lanes=1, steps=5000, loss=loss
    )
    assert run.verdict[0] in ("global", "local") and run.direction_error[0, -1] < 0.02


@pytest.mark.parametrize(
    ("function", "derivative", "message"),
    [
        (lambda m: m, lambda m: jnp.ones_like(m), "decreasing function of the margin; it increases at -20"),
        (lambda m: m * m, lambda m: 2 * m, "decreasing function of the margin; it increases at"),
        (lambda m: -m, lambda m: -2 * jnp.ones_like(m), "derivative does not match the function at margin -19.9"),
        (lambda m: -jnp.log(m), lambda m: -1 / m, "expected finite values"),
    ],
)
def test_bad_losses(function, derivative, message):
    with pytest.raises(ValueError, match=message):
        Smooth(function, derivative)


def test_what_is_no_loss():
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    with pytest.raises(ValueError, match="loss: expected one of logistic, .*, negative-log or a Smooth; got 3"):
        jaxsim.simulate(
            problem, jaxsim.rules.NGD(0.1), jaxsim.init.Zero(), key=jax.random.key(1), lanes=1, steps=1, loss=3
        )  # type: ignore[arg-type]


def test_lanes_of_a_loss_of_the_users_do_not_depend_on_how_many_there_are():
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    # Scores that are far apart: differences of ℓ are then taken from ℓ itself.
    problem = jaxsim.Problem(problem.tokens, problem.queries, problem.labels, 9 * problem.decoder)
    loss = jaxsim.losses.Smooth(lambda m: jnp.pi / 2 - jnp.arctan(m), lambda m: -1 / (1 + m * m))
    runs = [
        jaxsim.simulate(problem, jaxsim.rules.Polyak(), jaxsim.init.Gaussian(1.0), key=jax.random.key(1), lanes=lanes,
                        steps=3, loss=loss, dtype=np.float64)
        for lanes in (1, 1024)
    ]  # fmt: skip
    np.testing.assert_allclose(runs[0].norm[0], runs[1].norm[0], rtol=1e-12)
    np.testing.assert_allclose(runs[0].log10_gap[0], runs[1].log10_gap[0], rtol=1e-12)

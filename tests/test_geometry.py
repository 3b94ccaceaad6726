"""Rule × geometry: each rule ends nearest to the max-margin solution of its own norm."""

import jax
import numpy as np
import pytest

import jaxsim
from jaxsim import rules

OWN = {
    rules.NGD(0.1): ("frobenius", 0.03),
    rules.Spectral(0.05): ("spectral", 0.05),
    rules.SignDescent(0.02): ("linf", 0.1),
    rules.Hybrid(0.02): ("spectral/linf", 0.1),
    rules.Mirror(0.1, p=1.2): ("l1.2", 0.05),
    rules.Mirror(0.1, p=3): ("l3", 0.01),
}
NORMS = [
    ("frobenius", None),
    ("nuclear", None),
    ("spectral", None),
    ("linf", None),
    ("lp", 1.2),
    ("lp", 3),
    ("spectral/linf", None),
]


@pytest.mark.parametrize("seed", [0, 1])
def test_each_rule_is_nearest_to_its_own_geometry(seed):
    problem = jaxsim.data.unit_sphere(jax.random.key(seed), n=4, T=5, d=6)
    found = jaxsim.geometry(problem, list(OWN), key=jax.random.key(0), lanes=4, norms=NORMS)
    assert (found.saturated == 4).all() and (found.margin_ratio <= 1 + 1e-6).all()
    for k, (norm, by) in enumerate(OWN.values()):
        own = found.norms.index(norm)
        others = np.delete(found.margin_ratio[k], own)
        assert found.margin_ratio[k, own] > max(0.95, others.max() + by)
        assert found.correlation[k, own] > 0.99


@pytest.mark.slow
def test_momentum_does_not_change_the_limit():
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=4, T=5, d=6)
    chosen = [rules.NGD(0.1), rules.NormalisedMomentum(0.1), rules.HeavyBall(1.0), rules.Nesterov(1.0)]
    found = jaxsim.geometry(problem, chosen[:2], key=jax.random.key(0), lanes=4, norms=NORMS[:1])
    assert (found.margin_ratio > 0.99).all()
    plain, *others = (
        jaxsim.simulate(problem, rule, jaxsim.init.Zero(), key=jax.random.key(0), lanes=1, steps=50_000)
        for rule in (rules.GD(10.0), *chosen[2:])
    )
    for run in others:
        np.testing.assert_array_equal(run.selection, plain.selection)
        early = run.direction_error[0, run.steps >= 500][0]
        assert run.direction_error[0, -1] < 0.15 < 0.75 * early


def test_nothing_saturated_is_nan():
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=4, T=5, d=6)
    found = jaxsim.geometry(problem, [rules.NGD(0.1)], key=jax.random.key(0), lanes=2, steps=5)
    assert found.saturated.tolist() == [0] and np.isnan(found.correlation).all()


def test_batches_are_the_same_for_all_rules_and_from_run_to_run():
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=4, T=5, d=6)
    how = dict(key=jax.random.key(0), lanes=2, steps=2000, norms=NORMS[:1])
    one, two = (jaxsim.geometry(problem, [rules.NGD(0.1)] * 2, batch=1, **how) for _ in range(2))
    np.testing.assert_array_equal(one.correlation[0], one.correlation[1])
    np.testing.assert_array_equal(one.correlation, two.correlation)
    assert (one.correlation != jaxsim.geometry(problem, [rules.NGD(0.1)], **how).correlation).all()
    with pytest.raises(ValueError, match="batch: expected at most n = 4 sequences; got 5"):
        jaxsim.geometry(problem, [rules.NGD(0.1)], batch=5, **how)


@pytest.mark.slow
def test_with_momentum_a_rule_keeps_its_geometry_when_a_step_sees_one_sequence():
    """The table of the rules' page."""
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=4, T=5, d=6)
    pairs = {
        "frobenius": (rules.NGD(0.1), rules.NormalisedMomentum(0.1)),
        "spectral": (rules.Spectral(0.05), rules.Muon(0.05)),
        "linf": (rules.SignDescent(0.02), rules.Signum(0.02)),
        "spectral/linf": (rules.Hybrid(0.02), rules.Hybrid(0.02, beta=0.9)),
    }
    for norm, pair in pairs.items():
        found = jaxsim.geometry(problem, pair, key=jax.random.key(0), lanes=8, norms=[(norm, None)], batch=1)
        without, with_momentum = found.margin_ratio[:, 0]
        assert without < 0.7 and with_momentum > 0.99

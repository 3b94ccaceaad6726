"""Signum, Muon, Hybrid: against many digits at depths where floats hold no gradient, and what they are without β."""

import jax
import mpmath
import numpy as np
import oracle
import pytest

import jaxsim
from jaxsim import init, rules
from jaxsim.normed import dual_norm_of, norm_of

KEY = jax.random.key(0)


def sign(v):
    return v.apply(mpmath.sign)


def polar(v):
    """Directions that no float sees, by hundreds of digits here, do not move."""
    U, s, V = mpmath.svd_r(v)
    return U * mpmath.diag([1 if x > s[0] * mpmath.mpf("1e-14") else 0 for x in s]) * V


def hybrid(v):
    """The polar factor of the upper row, of one row its direction; the signs of the lower."""
    return mpmath.matrix([list(v[0, :] / mpmath.norm(v[0, :])), list(sign(v[1, :]))])


MADE = {
    "signum": (lambda beta: rules.Signum(0.05, beta), sign),
    "muon": (lambda beta: rules.Muon(0.05, beta), polar),
    "hybrid": (lambda beta: rules.Hybrid(0.05, beta=beta), hybrid),
}


def problem():
    return jaxsim.data.unit_sphere(jax.random.key(5), n=3, T=3, d=2)


def by_many_digits(W0, beta, step_of, steps):
    """W after so many steps of W ← W - 0.05 step_of(v), v ← β v + ∇, and log10 of the last gradient's norm."""
    data = problem()
    with mpmath.workdps(2500):
        W, v = mpmath.matrix(W0.tolist()), mpmath.zeros(*W0.shape)
        for _ in range(steps):
            gradient = mpmath.zeros(*W0.shape)
            for x, z, s in zip(data.tokens, data.queries, data.scores, strict=True):
                exps = [mpmath.exp((mpmath.matrix(t).T * W * mpmath.matrix(z))[0]) for t in x]
                phi = [e / mpmath.fsum(exps) for e in exps]
                m = mpmath.fsum(p * mpmath.mpf(k) for p, k in zip(phi, s, strict=True))
                slope = -1 / (1 + mpmath.exp(m)) / len(data.tokens)
                for t, p, k in zip(x, phi, s, strict=True):
                    gradient += slope * p * (mpmath.mpf(k) - m) * (mpmath.matrix(t) * mpmath.matrix(z).T)
            v = mpmath.mpf(beta) * v + gradient
            W = W - mpmath.mpf(0.05) * step_of(v)
        return np.array(W.tolist(), float), float(mpmath.log10(mpmath.norm(gradient)))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 5e-6)])
@pytest.mark.parametrize("size", [1.0, 6000.0])
@pytest.mark.parametrize("name", MADE)
def test_trajectories_of_many_digits(name, size, dtype, tolerance):
    rule, step_of = MADE[name]
    W0 = size * np.random.default_rng(6).standard_normal((2, 2)).astype(np.float32).astype(float)
    beta = float(np.float32(0.9))
    expected, depth = by_many_digits(W0, beta, step_of, 25)
    run = jaxsim.simulate(problem(), rule(beta), init.Given(W0), key=KEY, lanes=1, steps=25, dtype=dtype)
    assert np.abs(run.W(0) - expected).max() <= tolerance * np.abs(expected).max()
    assert (depth < -330) == (size > 1)


@pytest.mark.parametrize(
    ("momentum", "without"),
    [
        (rules.Signum(0.05, 0.0), rules.SignDescent(0.05)),
        (rules.Muon(0.05, 0.0), rules.Spectral(0.05)),
        (rules.Hybrid(0.05, "linf/linf"), rules.SignDescent(0.05)),
        (rules.Muon(0.05, 0.0, "newton-schulz"), rules.Spectral(0.05, "newton-schulz")),
    ],
)
def test_without_momentum_they_are_steepest_descent(momentum, without):
    runs = [
        jaxsim.simulate(problem(), rule, init.Gaussian(1.0), key=KEY, lanes=5, steps=50) for rule in (momentum, without)
    ]
    np.testing.assert_allclose(runs[0].final_logits, runs[1].final_logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("norms", ["spectral/linf", "linf/spectral", "frobenius/spectral/linf", "frobenius/linf"])
def test_a_hybrid_step_attains_the_dual_norm(norms, dtype):
    """Of all steps of norm η it descends most: ⟨∇, D⟩ = N*(∇) with N(D) = 1. Rows are 3 + 2, and 2 + 2 + 1."""
    data = jaxsim.data.unit_sphere(jax.random.key(5), n=4, T=4, d=5)
    W0 = np.random.default_rng(1).standard_normal((5, 5)).astype(np.float32).astype(float)
    _, gradient, _ = oracle.forward(data, W0, "logistic")
    run = jaxsim.simulate(data, rules.Hybrid(0.5, norms), init.Given(W0), key=KEY, lanes=1, steps=1, dtype=dtype)
    step, rounding = (W0 - run.W(0)) / 0.5, 200 * float(np.finfo(dtype).eps)
    assert norm_of(step, norms) == pytest.approx(1, rel=rounding)
    assert np.sum(gradient * step) == pytest.approx(dual_norm_of(gradient, norms), rel=rounding)


def test_bad_input():
    for wrong in ("spectral", "spectral/nuclear", 3):
        with pytest.raises(ValueError, match="norms: expected two or more of frobenius, spectral, linf, .*; got"):
            rules.Hybrid(0.1, wrong)
    with pytest.raises(ValueError, match="beta: expected a number from 0 to below 1; got 1"):
        rules.Signum(0.1, 1.0)
    with pytest.raises(ValueError, match="method: expected 'svd' or 'newton-schulz'; got 'qr'"):
        rules.Muon(0.1, method="qr")

"""Linear logistic regression through the same driver and rules: many digits, rates, limits, bad input."""

import jax
import mpmath as mp
import numpy as np
import pytest

import jaxsim
from jaxsim import init, rules
from jaxsim.model.minibatch import members

KEY = jax.random.key(0)


def separable(n=12, d=6, seed=0):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((n, d)), rng.standard_normal(d)
    return x + 0.3 * np.sign(x @ w)[:, None] * w / np.linalg.norm(w), np.sign(x @ w)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 2e-5)])
@pytest.mark.parametrize("rule", [rules.NGD(2.0), rules.GD(3.0), rules.Polyak(0.5)], ids=lambda r: r.name)
def test_trajectory_against_many_digits(rule, dtype, tolerance):
    x, y = separable(4, 3)
    run = jaxsim.regress(x, y, rule, init.Zero(), key=KEY, lanes=2, steps=400, record=[50, 400], dtype=dtype)
    with mp.workdps(500):
        rows = [[mp.mpf(float(v)) for v in row] for row in y[:, None] * x]
        w = [mp.mpf(0)] * 3
        for k in range(401):
            m = [mp.fdot(row, w) for row in rows]
            loss = mp.fsum(mp.log1p(mp.exp(-v)) for v in m) / 4
            g = [-mp.fsum(row[j] / (1 + mp.exp(v)) for row, v in zip(rows, m, strict=True)) / 4 for j in range(3)]
            size = mp.sqrt(mp.fdot(g, g))
            if k in (50, 400):
                r = 0 if k == 50 else 1
                assert run.norm[1, r] == pytest.approx(float(mp.sqrt(mp.fdot(w, w))), rel=tolerance)
                assert run.log10_loss[1, r] == pytest.approx(float(mp.log10(loss)), rel=tolerance, abs=tolerance)
                assert run.log10_grad_norm[1, r] == pytest.approx(float(mp.log10(size)), rel=tolerance, abs=tolerance)
            factor = {"ngd": mp.mpf(2) / size, "gd": mp.mpf(3), "polyak": loss / size**2 / 2}[rule.name]
            w = [a - factor * b for a, b in zip(w, g, strict=True)]
    assert rule.name == "gd" or run.log10_loss[0, -1] < -25


def test_the_three_rates():
    """‖error‖: 1/t under normalised steps, 1/log t under GD; the loss falls geometrically under Polyak's step."""
    x, y = separable()
    options = dict(key=KEY, lanes=20)
    law = init.Gaussian(0.1)
    ngd = jaxsim.regress(x, y, rules.NGD(0.1), law, steps=50_000, **options)
    assert -1.1 < ngd.rate(window=(5000, 50_000)).slope < -0.9
    gd = jaxsim.regress(x, y, rules.GD(1.0), law, steps=100_000, **options)
    assert gd.rate("inverse-log", window=(1000, 100_000)).r_squared > 0.98
    polyak = jaxsim.regress(x, y, rules.Polyak(1.0), law, steps=2000, **options)
    assert -1.2 < polyak.rate(window=(200, 2000)).slope < -0.8
    assert (ngd.margin_gap[:, -1] < 1e-2).all() and (ngd.margin_gap[:, 1:] > -1e-12).all()


def test_the_limit_is_the_hard_margin_solution():
    import cvxpy as cp

    x, y = separable()
    run = jaxsim.regress(x, y, rules.NGD(0.1), init.Zero(), key=KEY, lanes=1, steps=10)
    w = cp.Variable(6)
    cp.Problem(cp.Minimize(cp.norm(w)), [cp.multiply(y, x @ w) >= 1]).solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(run.limit, w.value, atol=1e-5)


def test_more_dimensions_than_samples():
    x, y = separable(5, 40)
    run = jaxsim.regress(x, y, rules.NGD(0.1), init.Sphere(1.0), key=KEY, lanes=30, steps=3000)
    np.testing.assert_allclose(run.norm[:, 0], 1.0, rtol=1e-12)
    assert run.direction_error.shape == (30, len(run.steps)) and (run.direction_error[:, -1] < 0.01).all()


def test_momentum_freezes_where_gradients_shrink_faster_than_it_forgets():
    """η/‖w_mm‖ against log(1/β) = 0.105: at 0.031 the direction converges, at 0.31 it does not."""
    x, y = separable(5, 40)
    options = dict(key=KEY, lanes=10, steps=30_000)
    slow, fast = (jaxsim.regress(x, y, rules.NormalisedMomentum(eta), init.Zero(), **options) for eta in (0.01, 0.1))
    assert np.linalg.norm(fast.limit) == pytest.approx(0.3226, abs=1e-4)
    early = fast.steps >= 3000
    assert (slow.direction_error[:, -1] < 0.001).all() and (fast.direction_error[:, -1] > 0.02).all()
    assert np.ptp(fast.direction_error[:, early]) < 1e-2 * fast.direction_error[:, early].mean()


def test_data_that_no_hyperplane_separates():
    run = jaxsim.regress([[1.0], [2.0]], [1, -1], rules.GD(0.1), init.Zero(), key=KEY, lanes=1, steps=50)
    assert np.isnan(run.limit).all() and np.isnan(run.direction_error).all() and run.log10_loss[0, -1] > -1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_batches_and_entrywise_rules_against_plain_arithmetic(dtype):
    """Sign descent on one sample a step: its order is told by that of a copy of the same batches."""
    x, y = separable(4, 3)
    how = dict(key=KEY, lanes=1, steps=40, dtype=dtype, batch=1)
    run = jaxsim.regress(x, y, rules.SignDescent(0.1), init.Zero(), **how)
    order = jax.random.fold_in(KEY, 2**32 - 1)
    w = np.zeros(3)
    for k in range(40):
        i = int(np.argmax(members(order, jax.numpy.int32(k), 4, 1)))
        w += 0.1 * np.sign(y[i] * x[i])  # the slope of the loss is negative at any margin
    np.testing.assert_allclose(run.w[0], w, atol=1e-12 if dtype == "float64" else 1e-6)


def test_the_gradient_of_a_batch_is_that_of_its_samples():
    x, y = separable(6, 4)
    how = dict(key=KEY, lanes=3, steps=1, record=[1])
    part = jaxsim.regress(x, y, rules.GD(1.0), init.Gaussian(1.0), **how, batch=2)
    whole = jaxsim.regress(x, y, rules.GD(1.0), init.Gaussian(1.0), **how)
    chosen = np.asarray(members(jax.random.fold_in(KEY, 2**32 - 1), jax.numpy.int32(0), 6, 2))
    start = jaxsim.regress(x, y, rules.GD(1e-300), init.Gaussian(1.0), **how).w
    for run, rows in ((part, (y[:, None] * x)[chosen]), (whole, y[:, None] * x)):
        moved = (rows[None] / (1 + np.exp(start @ rows.T))[:, :, None]).mean(1)
        np.testing.assert_allclose(run.w, start + moved, rtol=1e-12, atol=1e-14)


def test_each_rule_ends_nearest_to_the_solution_of_its_own_norm():
    """Without momentum a step on one sample leaves ℓ∞ and ℓ2; with it, not (seen here; no theorem is claimed)."""
    x, y = separable(4, 6)
    chosen = [rules.NGD(0.05), rules.NormalisedMomentum(0.05), rules.SignDescent(0.02), rules.Signum(0.02)]
    own, how = [0, 0, 2, 2], dict(key=KEY, lanes=2, steps=20_000)
    for batch, least in ((None, (0.99, 0.99, 0.99, 0.99)), (1, (0.0, 0.98, 0.0, 0.98))):
        found = jaxsim.linear_geometry(x, y, chosen, **how, batch=batch)
        assert found.norms == ["frobenius", "l1", "linf"] and (found.saturated == 2).all()
        ratios = found.margin_ratio[np.arange(4), own]
        print(batch, ratios)
        assert (ratios > least).all() and (found.margin_ratio <= 1 + 1e-6).all()
        if batch:
            assert (ratios[[0, 2]] < 0.9).all()


def test_solutions_of_norms_are_those_of_a_solver():
    import cvxpy as cp

    x, y = separable(5, 3)
    for name, order in (("l1", 1), ("linf", "inf")):
        w = cp.Variable(3)
        least = cp.Problem(cp.Minimize(cp.norm(w, order)), [cp.multiply(y, x @ w) >= 1]).solve(solver=cp.CLARABEL)
        problem = jaxsim.simulation.geometries._of_samples(x, y)
        assert jaxsim.max_margin(problem, np.zeros(5, int), norm=name).norm == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(features=[1.0, 2.0]), r"features: expected shape \(n, d\)"),
        (dict(labels=[1, 2]), "labels: expected at least one label, each"),
        (dict(init=init.Given(np.eye(2))), "init: expected jaxsim.init.Gaussian, Sphere or Zero"),
        (dict(rule=rules.Spectral(0.1)), "rule: expected one that needs no matrix"),
        (dict(batch=3), "batch: expected at most n = 2 samples; got 3"),
        (dict(batch=0), "batch: expected at least 1"),
        (dict(loss="linear"), "loss: expected one whose infimum is 0"),
        (dict(key=3), "key: expected a JAX key"),
        (dict(lanes=0), "lanes: expected at least 1"),
    ],
)
def test_bad_input(changes, message):
    arguments = dict(
        features=np.eye(2), labels=[1, -1], rule=rules.NGD(0.1), init=init.Zero(), key=KEY, lanes=1, steps=1
    )
    with pytest.raises(ValueError, match=message):
        jaxsim.regress(**(arguments | changes))


def test_samples_whose_features_add_up_to_nothing_have_a_geometry():
    found = jaxsim.linear_geometry(
        [[1.0, -1.0], [2.0, -1.0]], [1, 1], [rules.NGD(0.1)], key=KEY, lanes=1, steps=2000, norms=[("frobenius", None)]
    )
    assert found.margin_ratio[0, 0] > 0.99

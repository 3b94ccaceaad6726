"""Minibatches: many digits, the order of batches, full batches, all three stochastic rules, bad input."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import jaxsim
from jaxsim import init, rules, train
from jaxsim.model.minibatch import members

KEY, ORDER = jax.random.key(0), jax.random.key(5)


def data(n=5, T=3, d=4):
    return jaxsim.data.unit_sphere(jax.random.key(1), n=n, T=T, d=d)


def batches(steps, n, size):
    return [np.flatnonzero(members(ORDER, jnp.asarray(k), n, size)) for k in range(steps)]


def test_every_epoch_shows_every_sequence_once():
    seen = batches(12, 5, 2)
    for e in range(4):
        assert sorted(np.concatenate(seen[3 * e : 3 * e + 3]).tolist()) == list(range(5))
    assert len({tuple(seen[3 * e]) for e in range(4)}) > 1


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 1e-5)])
@pytest.mark.parametrize("rule", [rules.NGD(0.5), rules.GD(2.0), rules.Polyak(0.5, max_step=3.0)], ids=lambda r: r.name)
def test_trajectory_against_many_digits(rule, dtype, tolerance):
    problem, steps = data(), 150
    W0 = np.random.default_rng(0).standard_normal((4, 4)) / 2
    run = jaxsim.simulate(
        problem, rule, init.Given(W0), key=KEY, lanes=2, steps=steps, train=train.Weights(2, ORDER), dtype=dtype
    )
    with mp.workdps(300):
        rows = [
            [[mp.mpf(float(a)) * mp.mpf(float(b)) for a in problem.tokens[i, t] for b in problem.queries[i]]
             for t in range(3)] for i in range(5)
        ]  # fmt: skip
        u = [mp.mpf(float(v)) for v in problem.decoder]
        s = [
            [mp.mpf(int(problem.labels[i])) * mp.fdot([mp.mpf(float(v)) for v in problem.tokens[i, t]], u)
             for t in range(3)] for i in range(5)
        ]  # fmt: skip
        w = [mp.mpf(float(v)) for v in W0.ravel()]
        for batch in batches(steps, 5, 2):
            g, gap = [mp.mpf(0)] * 16, mp.mpf(0)
            for i in batch:
                e = [mp.exp(mp.fdot(row, w)) for row in rows[i]]
                phi = [v / mp.fsum(e) for v in e]
                m = mp.fdot(phi, s[i])
                gap += (mp.log1p(mp.exp(-m)) - mp.log1p(mp.exp(-max(s[i])))) / len(batch)
                slope = -1 / (1 + mp.exp(m)) / len(batch)
                for p, st, row in zip(phi, s[i], rows[i], strict=True):
                    g = [a + slope * p * (st - m) * b for a, b in zip(g, row, strict=True)]
            size = mp.sqrt(mp.fdot(g, g))
            length = {"ngd": mp.mpf(0.5), "gd": 2 * size, "polyak": min(gap / size / 2, mp.mpf(3))}[rule.name]
            w = [a - length / size * b for a, b in zip(w, g, strict=True)]
        logits = np.array([[float(mp.fdot(row, w)) for row in seq] for seq in rows])
    assert np.abs(run.final_logits[1] - logits).max() < tolerance * np.abs(logits).max()


def test_a_batch_of_all_is_full_descent():
    options = dict(key=KEY, lanes=3, steps=200)
    for rule in (rules.NGD(0.1), rules.Polyak(max_step=1.0)):
        one = jaxsim.simulate(data(), rule, init.Gaussian(0.3), train=train.Weights(5, ORDER), **options)
        two = jaxsim.simulate(data(), rule, init.Gaussian(0.3), **options)
        np.testing.assert_allclose(one.final_logits, two.final_logits, rtol=1e-9, atol=1e-9)


def test_stochastic_ngd_goes_where_ngd_goes():
    run = jaxsim.simulate(
        data(), rules.NGD(0.1), init.Gaussian(0.1), key=KEY, lanes=20, steps=20_000, train=train.Weights(2, ORDER)
    )
    assert run.finite.all() and np.isin(run.verdict, ("global", "local")).all()


def test_a_batch_whose_sequences_have_one_token_moves_nothing():
    base = data(3)
    mask = np.array([[True] * 3, [True, False, False], [True, False, False]])
    problem = jaxsim.Problem(base.tokens, base.queries, base.labels, base.decoder, mask)
    for rule in (rules.NGD(0.1), rules.Polyak(), rules.GD(0.1)):
        run = jaxsim.simulate(
            problem, rule, init.Gaussian(0.1), key=KEY, lanes=2, steps=30, train=train.Weights(1, ORDER)
        )
        assert run.finite.all() and (run.norm[:, -1] != run.norm[:, 0]).all()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (train.Weights(6, ORDER), "batch: expected at most n = 5 sequences; got 6"),
        (train.Weights(0, ORDER), "batch: expected at least 1; got 0"),
        (train.Weights(2), "train.key: expected a JAX key such as .*; got None"),
    ],
)
def test_bad_input(choice, message):
    with pytest.raises(ValueError, match=message):
        jaxsim.simulate(data(), rules.NGD(0.1), init.Zero(), key=KEY, lanes=1, steps=1, train=choice)

"""Prompt attention and keys apart from tokens: the same dynamics as full self-attention written another way."""

import jax
import numpy as np
import pytest

import jaxsim

RNG = np.random.default_rng(3)
X, Y, U, M = (
    RNG.standard_normal((4, 5, 6)),
    np.array([1, -1, 1, 1]),
    RNG.standard_normal(6),
    RNG.standard_normal((6, 3)),
)


def autodiff_run(p, steps, eta):
    """softmax(X M p) step by step with a NumPy gradient, from the definition."""
    for _ in range(steps):
        total = 0
        for x, y in zip(X, Y, strict=True):
            a = x @ M @ p
            phi = np.exp(a - a.max())
            phi /= phi.sum()
            m = y * phi @ (x @ U)
            s = y * (x @ U)
            total = total - (phi * (s - m)) @ (x @ M) / (1 + np.exp(m)) / len(X)
        p = p - eta * total / np.linalg.norm(total)
    return p


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
def test_prompt_follows_the_definition(coordinates):
    problem = jaxsim.data.prompt(X, Y, U, M)
    assert problem.W_shape == (3, 1)
    p0 = np.array([0.3, -0.2, 0.1])
    run = jaxsim.simulate(
        problem, jaxsim.rules.NGD(0.1), jaxsim.init.Given(p0[:, None]), key=jax.random.key(0), lanes=1, steps=60,
        coordinates=coordinates,
    )  # fmt: skip
    np.testing.assert_allclose(run.W(0)[:, 0], autodiff_run(p0, 60, 0.1), rtol=1e-9)


def test_the_limit_is_the_max_margin_prompt():
    problem = jaxsim.data.prompt(X, Y, U)
    exact, checked = jaxsim.max_margin(problem), jaxsim.max_margin(problem, engine="cvxpy")
    assert exact.W.shape == (6, 1) and exact.status == checked.status == "optimal"
    np.testing.assert_allclose(exact.norm, checked.norm, rtol=1e-6)
    run = jaxsim.simulate(
        problem, jaxsim.rules.NGD(0.1), jaxsim.init.Zero(), key=jax.random.key(0), lanes=1, steps=20_000
    )
    assert run.direction_error[0, -1] < 5e-3


def test_keys_survive_files_and_change_the_fingerprint(tmp_path):
    problem = jaxsim.data.prompt(X, Y, U, M)
    jaxsim.data.save(problem, tmp_path / "p.npz")
    again = jaxsim.data.load(tmp_path / "p.npz")
    np.testing.assert_array_equal(again.keys, problem.keys)
    assert again.fingerprint() == problem.fingerprint() != jaxsim.data.prompt(X, Y, U, 2 * M).fingerprint()
    law = jaxsim.init.Gaussian(1.0)
    run = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), law, key=jax.random.key(0), lanes=3, steps=5)
    run.save(tmp_path / "run.npz")
    np.testing.assert_array_equal(jaxsim.Run.load(tmp_path / "run.npz").W(1), run.W(1))


def test_equal_keys_are_refused():
    with pytest.raises(ValueError, match="keys: expected distinct keys within a sequence"):
        jaxsim.data.prompt(X, Y, U, np.zeros((6, 2)))
    with pytest.raises(ValueError, match="weights: expected shape"):
        jaxsim.data.prompt(X, Y, U, np.zeros((5, 2)))

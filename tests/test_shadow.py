"""Shadows: what a lane makes of a change of 1e-12 in its start."""

import jax
import numpy as np
import pandas as pd
import pytest
from commands import invoke

import jaxsim
from jaxsim import init, rules

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def sphere():
    return jaxsim.data.unit_sphere(KEY, n=4, T=5, d=8)


def test_lanes_that_forget_and_lanes_that_do_not(sphere):
    how = dict(key=KEY, lanes=32, steps=2000, limits="saturated")
    gd = jaxsim.simulate(sphere, rules.GD(1.0), init.Gaussian(0.3), **how, shadow=True)
    assert (gd.report["amplification"] < 10).all() and not gd.report["chaotic"].any()
    assert np.array_equal(gd.verdict, jaxsim.simulate(sphere, rules.GD(1.0), init.Gaussian(0.3), **how).verdict)
    digits = jaxsim.data.digits((3, 8), 20, True)
    polyak = jaxsim.simulate(digits, rules.Polyak(1.0), init.Gaussian(3.0), **how, shadow=True)
    assert np.median(polyak.report["amplification"]) > 1e6
    assert polyak.summary()["report"]["chaotic"] == polyak.report["chaotic"].sum()


def test_amplification_is_that_of_a_second_run(sphere):
    """By a start given as a matrix, moved by hand."""
    how = dict(key=KEY, lanes=1, steps=300, coordinates="full")
    W0 = 20 * np.random.default_rng(0).standard_normal(sphere.W_shape)
    run = jaxsim.simulate(sphere, rules.GD(1.0), init.Given(W0), **how, shadow=True)
    ways = np.cos(np.arange(1, W0.size + 1)).reshape(W0.T.shape).T  # the driver carries W columns first
    other = jaxsim.simulate(sphere, rules.GD(1.0), init.Given(W0 + 1e-12 * np.abs(W0).max() * ways), **how)
    apart = np.abs(other.final_logits - run.final_logits).max() / np.abs(run.final_logits).max()
    assert np.isclose(run.report["amplification"][0], apart / 1e-12, rtol=0.05)


def test_a_start_between_two_ends_is_called_chaotic():
    """Two tokens of one score and one logit: the shadow is beyond the tie in one of two orders."""
    chaotic = []
    for first, second in ((1, 2), (2, 1)):
        tokens = np.eye(3)[[0, first, second]][None]
        problem = jaxsim.Problem(tokens=tokens, queries=np.eye(3)[:1], labels=np.ones(1), decoder=np.eye(3)[0])
        W0 = np.zeros((3, 3))
        W0[1:, 0] = 50.0
        run = jaxsim.simulate(
            problem, rules.GD(1.0), init.Given(W0), key=KEY, lanes=1, steps=20, limits="none", shadow=True,
            coordinates="full",
        )  # fmt: skip
        chaotic.append(run.report["chaotic"][0])
        assert run.verdict == "unresolved"
    assert sorted(chaotic) == [0, 1]


@pytest.mark.slow
def test_the_command_line_counts_them(tmp_path):
    said = invoke(
        "run", "--data", "unit-sphere", "--lanes", "16", "--steps", "50", "--shadow", "--rule", "gd=1",
        "--rule", "gd=1@3000", "--out", "r", cwd=tmp_path, columns=100,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "chaotic lanes" in said.out and "another selection or verdict" in " ".join(said.out.split())
    assert "3,000 steps" in said.out
    rules_told = pd.read_parquet(tmp_path / "r" / "lanes.parquet")["rule"].unique().tolist()
    assert rules_told == ["GD(eta=1)", "GD(eta=1), 3,000 steps"]
    again = invoke("replay", "r", "--lane", "3", "--rule", "gd=1@3000", cwd=tmp_path)
    assert again.code == 0 and "as saved" in again.out, again.out + again.err

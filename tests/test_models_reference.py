"""Momentum, joint and key-query training against 60- to 1,200-digit arithmetic in parameter space."""

import jax
import numpy as np
import pytest
from conftest import DATA

import jaxsim
from jaxsim import rules

MODELS = DATA / "models"
MOMENTUM = {
    "heavy_ball": rules.HeavyBall,
    "nesterov": rules.Nesterov,
    "normalised_momentum": rules.NormalisedMomentum,
    "adagrad_norm": rules.AdaGradNorm,
}


def load(name):
    with np.load(MODELS / f"{name}.npz") as case:
        return dict(case)


def problem_of(case):
    return jaxsim.Problem(case["X"], case["Z"], case["y"], case["u"])


def relative(got, wanted):
    """Largest error at each step over the largest entry of that step."""
    return (np.abs(got - wanted).max(1) / np.abs(wanted).max(1)).max()


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-6)])
@pytest.mark.parametrize("name", MOMENTUM)
def test_momentum(name, dtype, tolerance, coordinates):
    case = load(name)
    run = jaxsim.simulate(
        problem_of(case),
        MOMENTUM[name](float(case["eta"][0])),
        jaxsim.init.Given(case["W0"]),
        key=jax.random.key(0),
        lanes=1,
        steps=int(case["steps"][-1]),
        record=case["steps"].tolist(),
        dtype=dtype,
        coordinates=coordinates,
        keep=("logits",),
    )
    R = len(case["steps"])
    assert relative(run.logits[0].reshape(R, -1), case["logits"]) < tolerance
    if dtype == "float64":
        np.testing.assert_allclose(run.log10_grad_norm[0], case["log10_norms"][:, 0], rtol=0, atol=1e-9)


def test_the_cases_are_deeper_than_autodiff_reaches():
    assert load("normalised_momentum")["log10_norms"][-1, 0] < -80
    assert load("joint_ngd")["log10_norms"][-1].min() < -320
    assert load("joint_batch")["log10_norms"][-1].min() < -200
    assert load("kq_ngd")["log10_norms"][-1].min() < -320

"""Trajectories against 60- to 2,000-digit arithmetic, and against the published experiment."""

import jax
import numpy as np
import pytest
from conftest import DATA

import jaxsim

CASES = sorted(path.stem for path in DATA.glob("*_*.npz") if path.stem != "published_local_converge")
RULE = {"gd": jaxsim.rules.GD, "ngd": jaxsim.rules.NGD, "polyak": jaxsim.rules.Polyak}
LOGIT_TOLERANCE = {("gd", "float64"): 1e-12, ("ngd", "float64"): 1e-12, ("polyak", "float64"): 1e-9}


def simulate_case(name, dtype, coordinates):
    case = np.load(DATA / f"{name}.npz")
    problem = jaxsim.Problem(case["X"], case["Z"], case["y"], case["u"])
    rule = str(case["rule"])
    by = RULE[rule](float(case["eta"]))
    if "rho" in case:
        by = jaxsim.rules.SAM(by, float(case["rho"]), bool(case["normalise"]))
    run = jaxsim.simulate(
        problem,
        jaxsim.rules.Decayed(by, float(case["rate"])) if "rate" in case else by,
        jaxsim.init.Given(case["W0"]),
        key=jax.random.key(0),
        lanes=1,
        steps=int(case["steps"][-1]),
        record=case["steps"].tolist(),
        loss=str(case["loss"]),
        dtype=dtype,
        coordinates=coordinates,
        keep=("logits", "coeffs"),
    )
    return case, rule, run


def relative(got, wanted):
    """Largest error at each step over the largest entry of that step; absolute where the reference is zero."""
    error, size = np.abs(got - wanted).max(1), np.abs(wanted).max(1)
    return (error / np.where(size > 0, size, 1)).max()


def test_all_cases_are_there():
    assert len(CASES) == 15


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_trajectory_matches_high_precision(name, dtype, coordinates):
    case, rule, run = simulate_case(name, dtype, coordinates)
    R = len(case["steps"])
    tolerance = LOGIT_TOLERANCE.get((rule, dtype), 1e-6)
    assert relative(run.logits[0].reshape(R, -1), case["logits"]) < tolerance
    if dtype == "float64":
        np.testing.assert_allclose(run.log10_grad_norm[0], case["log10_grad_norm"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(run.log10_gap[0], case["log10_gap"], rtol=0, atol=1e-6)
        if coordinates == "dual":
            assert relative(run.coeffs[0].reshape(R, -1), case["coeffs"]) < tolerance


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["gd_decayed", "ngd_decayed"])
def test_what_lies_outside_the_span_decays_too(name, dtype, coordinates):
    case, _, run = simulate_case(name, dtype, coordinates)
    tolerance = {"float64": 1e-11, "float32": 5e-6}[dtype]
    np.testing.assert_allclose(run.norm[0], case["norm"], rtol=tolerance)
    rows = np.einsum("itd,ie->itde", case["X"], case["Z"]).reshape(-1, *case["W0"].shape)
    left = (1 - float(case["eta"]) * float(case["rate"])) ** int(case["steps"][-1])
    W = left * case["W0"] + np.tensordot(case["coeffs"][-1], rows, 1)
    np.testing.assert_allclose(run.W(0), W, rtol=0, atol=tolerance * np.abs(W).max())


def autodiff(case, rule, steps):
    """What differentiating the loss in W gives, in float64: coefficients are not known, so W itself."""
    X, Z, scores = (jax.numpy.asarray(x) for x in (case["X"], case["Z"], case["y"][:, None] * (case["X"] @ case["u"])))

    def loss(W):
        attention = jax.nn.softmax(jax.numpy.einsum("itd,de,ie->it", X, W, Z), axis=1)
        return jax.numpy.log1p(jax.numpy.exp(-(attention * scores).sum(1))).mean()

    def step(_, W):
        slope = jax.grad(loss)(W)
        slope = slope / jax.numpy.linalg.norm(slope) if rule == "ngd" else slope
        return W - case["eta"] * (slope + case["rate"] * W)

    return jax.lax.fori_loop(0, steps, step, jax.numpy.asarray(case["W0"]))


def test_autodiff_is_wrong_at_these_depths():
    case = dict(np.load(DATA / "ngd_decayed.npz"))
    X, Z = case["X"], case["Z"]
    logits = np.einsum("itd,de,ie->it", X, autodiff(case, "ngd", 1000), Z).ravel()
    assert np.abs(logits - case["logits"][3]).max() > 0.1 * np.abs(case["logits"][3]).max()
    case = dict(np.load(DATA / "gd_decayed.npz"))
    assert case["log10_grad_norm"][0] < -20 and case["log10_grad_norm"][-1] > -1


def test_some_cases_are_deeper_than_float64_reaches():
    depths = [np.load(DATA / f"{name}.npz")["log10_grad_norm"].min() for name in CASES]
    assert sum(depth < -300 for depth in depths) == 2


@pytest.fixture(scope="module")
def published():
    with np.load(DATA / "published_local_converge.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def published_runs(published):
    runs = []
    for r in range(50):
        problem = jaxsim.Problem(*(published[k][r] for k in ("X", "Z", "y", "u")))
        runs.append(
            jaxsim.simulate(
                problem,
                jaxsim.rules.NGD(float(published["eta"])),
                jaxsim.init.Given(published["W0"][r]),
                key=jax.random.key(0),
                lanes=1,
                steps=10000,
                record=(published["true_at"] + 1).tolist(),
                keep=("logits",),
            )
        )
    return runs


def test_published_problems_have_the_published_optimal_tokens(published, published_runs):
    assert all(np.array_equal(run.problem.optimal, published["opt"][r]) for r, run in enumerate(published_runs))


def test_true_logits_of_all_fifty_runs(published, published_runs):
    for r, run in enumerate(published_runs):
        steps = len(run.steps)
        assert relative(run.logits[0].reshape(steps, -1), published["true_logits"][r].reshape(steps, -1)) < 1e-9
        np.testing.assert_allclose(run.norm[0], published["true_norm"][r], rtol=1e-9)


def test_published_correlations_while_they_are_right(published, published_runs):
    assert published["published_at"][:4].tolist() == [0, 10, 100, 500]
    for r, run in enumerate(published_runs):
        mm = jaxsim.max_margin(run.problem, published["published_selection"][r])
        correlation = (run.logits[0] * mm.coeffs).sum((1, 2)) / (mm.norm * run.norm[0])
        np.testing.assert_allclose(correlation[:4], published["published_corr"][r, :4], rtol=0, atol=1e-6)


def test_four_published_verdicts_are_wrong(published, published_runs):
    assert all(not np.array_equal(published["published_selection"][r], published["opt"][r]) for r in (2, 19, 37, 39))
    for r in (2, 19, 39):
        assert published_runs[r].verdict[0] == "global"
    moved = published_runs[37]
    assert moved.verdict[0] == "local"
    assert moved.selection[0].tolist() == [0, 0, 1, 6, 7, 6]
    assert not np.array_equal(moved.selection[0], published["published_selection"][37])


def test_the_other_verdicts_stand(published, published_runs):
    for r in sorted(set(range(50)) - {2, 19, 37, 39}):
        assert np.array_equal(published_runs[r].selection[0], published["published_selection"][r])

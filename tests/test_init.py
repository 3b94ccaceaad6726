"""Initialisation laws in reduced coordinates are the laws on the whole d × d space.

The false-alarm probability of each statistical assertion is under 1e-6; seeds are fixed.
"""

import jax
import numpy as np
import pytest
import scipy.stats

import jaxsim


def starts(problem, law, lanes=4000, coordinates="dual", seed=0):
    return jaxsim.simulate(
        problem, jaxsim.rules.NGD(1e-12), law, key=jax.random.key(seed), lanes=lanes, steps=1, record=[0],
        coordinates=coordinates, keep=("logits",),
    )  # fmt: skip


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
@pytest.mark.parametrize("dims", [(3, 4, 5), (2, 3, 20), (2, 3, 2)])
def test_gaussian_matches_the_full_matrix(coordinates, dims):
    """‖W_0‖²/σ² is χ²(d²), and each logit is N(0, σ²‖x‖²‖z‖²)."""
    problem = jaxsim.data.unit_sphere(jax.random.key(3), *dims)
    run = starts(problem, jaxsim.init.Gaussian(0.7), coordinates=coordinates)
    d = dims[2]
    assert scipy.stats.kstest((run.norm[:, 0] / 0.7) ** 2, scipy.stats.chi2(d * d).cdf).pvalue > 1e-6
    for i, t in [(0, 0), (1, 2)]:
        assert scipy.stats.kstest(run.logits[:, 0, i, t] / 0.7, "norm").pvalue > 1e-6
    flat = run.logits[:, 0].reshape(len(run.norm), -1)
    x = problem.tokens.reshape(-1, d)
    z = np.repeat(problem.queries, dims[1], axis=0)
    gram = (x @ x.T) * (z @ z.T)
    standard_error = np.sqrt((1 + gram**2) / len(flat))
    assert (np.abs(flat.T @ flat / len(flat) / 0.49 - gram) < 6 * standard_error).all()


def test_sphere_is_uniform_in_the_whole_space():
    """All norms are R; the share of ‖W_0‖² inside the span is Beta(r/2, (d² - r)/2)."""
    problem = jaxsim.data.unit_sphere(jax.random.key(3), 2, 3, 4)
    run = starts(problem, jaxsim.init.Sphere(2.5))
    np.testing.assert_allclose(run.norm[:, 0], 2.5, rtol=1e-12)
    r = run.settings["rank"]
    share = (run.start**2).sum(1) / 2.5**2
    assert scipy.stats.kstest(share, scipy.stats.beta(r / 2, (16 - r) / 2).cdf).pvalue > 1e-6


def test_zero_and_given(problem):
    assert (starts(problem, jaxsim.init.Zero(), lanes=3).norm[:, 0] == 0).all()
    W0 = np.random.default_rng(0).standard_normal((3, 5, 5))
    run = starts(problem, jaxsim.init.Given(W0), lanes=3)
    np.testing.assert_allclose(run.norm[:, 0], np.linalg.norm(W0, axis=(1, 2)), rtol=1e-12)
    for lane in range(3):
        np.testing.assert_allclose(run.W(lane), W0[lane], atol=1e-10)


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
def test_lifted_random_starts_have_their_norm_and_logits(coordinates):
    problem = jaxsim.data.unit_sphere(jax.random.key(3), 2, 3, 7)
    run = starts(problem, jaxsim.init.Gaussian(1.0), lanes=5, coordinates=coordinates)
    for lane in range(5):
        W = run.W(lane)
        assert np.linalg.norm(W) == pytest.approx(run.norm[lane, -1], rel=1e-10)
        logits = np.einsum("itd,de,ie->it", problem.tokens, W, problem.queries)
        np.testing.assert_allclose(logits, run.final_logits[lane], atol=1e-9)
        np.testing.assert_array_equal(W, run.W(lane))
    with pytest.raises(ValueError, match="lane: expected 0 to 4; got 5"):
        run.W(5)


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
def test_combinations_and_reduced_starts_run_as_the_matrices_they_stand_for(coordinates):
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=6)
    rng = np.random.default_rng(1)
    matrices, weights = rng.standard_normal((2, 6, 6)), rng.standard_normal((5, 2))
    how = dict(key=jax.random.key(0), lanes=5, steps=200, dtype="float64", coordinates=coordinates)
    rule = jaxsim.rules.NGD(0.1)
    whole = jaxsim.simulate(problem, rule, jaxsim.init.Given(np.einsum("lk,kde->lde", weights, matrices)), **how)
    span = jaxsim.simulate(problem, rule, jaxsim.init.Span(matrices, weights), **how)
    reduced = jaxsim.simulate(problem, rule, jaxsim.init.Reduced(whole.start, whole.outside), **how)
    for other in (span, reduced):
        np.testing.assert_allclose(other.final_logits, whole.final_logits, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(other.norm, whole.norm, rtol=1e-12)


def test_fixed_starts_refuse_what_does_not_fit():
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=6)
    how = dict(key=jax.random.key(0), lanes=2, steps=2)
    for init, words in (
        (jaxsim.init.Span(np.zeros((1, 6, 6)), np.ones((3, 1))), "weights: expected one row per lane, 2; got 3"),
        (jaxsim.init.Span(np.zeros((1, 5, 6)), np.ones((2, 1))), "matrices: expected matrices"),
        (jaxsim.init.Reduced(np.zeros((3, 12))), "xi: expected one row per lane, 2; got 3"),
        (jaxsim.init.Reduced(np.zeros((2, 7))), "xi: expected .* numbers per lane"),
    ):
        with pytest.raises(ValueError, match=words):
            jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), init, **how)
    with pytest.raises(ValueError, match="outside: expected squared norms"):
        jaxsim.init.Reduced(np.zeros((2, 7)), [-1.0, 0.0])


def test_lifted_matrices_of_given_starts_hold_what_was_given(tmp_path):
    """The part of W_0 outside the span never moves and is that of the matrices given, also after saving."""
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=2, T=3, d=6)
    rng = np.random.default_rng(1)
    M, w = rng.standard_normal((3, 6, 6)), rng.standard_normal((8, 3))
    W0 = np.einsum("lk,kde->lde", w, M)
    plane = jaxsim.basins.random_plane(problem, jax.random.key(2))
    pixels = jaxsim.basins.Pixels(plane, (-2, 2, -2, 2), (4, 2))
    a, b = np.meshgrid(pixels.a, pixels.b)
    grid = np.einsum("lp,pde->lde", np.stack([a.ravel(), b.ravel()], 1), plane.axes)
    for law, start in ((jaxsim.init.Given(W0), W0), (jaxsim.init.Span(M, w), W0), (pixels, grid)):
        run = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), law, key=jax.random.key(0), lanes=8, steps=5)
        run.save(tmp_path / "run.npz", overwrite=True)
        for found in (run, jaxsim.Run.load(tmp_path / "run.npz")):
            for lane in (0, 7):
                moved = found.W(lane) - start[lane]
                inside = run.frame.lift(run.position[lane] - run.start[lane])
                np.testing.assert_allclose(moved, inside, atol=1e-5)

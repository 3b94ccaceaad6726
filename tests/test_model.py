"""The model: scaled gradients against the definition, losses against high precision, coordinates against each other."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import oracle
import pytest

import jaxsim
from jaxsim.coordinates import frame_of
from jaxsim.model import LOSSES, attention, named, positive
from jaxsim.model.fixed_decoder import token_scores
from jaxsim.model.softmax import Scores, log_attention_gap, scaled_map

OF_ANY_MARGIN = [name for name, loss in LOSSES.items() if not positive(loss)]


def model_at(problem, W, loss="logistic", coordinates="dual", dtype=np.float64):
    frame = frame_of(problem, coordinates)
    _, start, _ = frame.project(W[None])
    model = attention(problem, frame, named(loss), dtype)
    return frame, model, model.enter(jnp.asarray(start.T, dtype))


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
@pytest.mark.parametrize("loss", OF_ANY_MARGIN)
@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0])
def test_gradient_and_gap_match_the_definition(problem, loss, coordinates, scale):
    W = scale * np.random.default_rng(1).standard_normal((5, 5))
    frame, model, params = model_at(problem, W, loss, coordinates)
    gradient = model.gradient(params)
    value, expected, phi = oracle.forward(problem, W, loss)
    block = gradient.blocks[0]
    assert np.exp(gradient.log_norm[0]) == pytest.approx(np.linalg.norm(expected), rel=1e-10)
    stepped = jax.tree.map(lambda x, d: x + jnp.exp(block.log_scale) * d, params, (block.direction,))
    moved = frame.locate(frame.project(W[None])[0], np.asarray(model.space.position(stepped[0])).T)
    np.testing.assert_allclose(frame.lift(moved[0]) - frame.lift(frame.project(W[None])[0][0]), expected, atol=1e-12)
    assert np.exp(gradient.log_gap[0]) == pytest.approx(value - oracle.infimum(problem, loss), rel=1e-9)
    seen = model.observe(params)
    assert np.exp(seen.log_attention_gap[0]) == pytest.approx((1 - phi.max(1)).max(), rel=1e-10)


def scores_of(problem, dtype=np.float64):
    return token_scores(problem, dtype)


@pytest.mark.parametrize("loss", ["logistic", "exponential", "linear"])
def test_gradient_matches_autodiff_in_the_logits(problem, loss):
    a = np.random.default_rng(2).standard_normal((3, 4, 1))
    scores = scores_of(problem)
    phi = scaled_map(jnp.asarray(a), scores)
    g, kappa = phi.pull(*named(loss).slope(scores.best - phi.deficit), scores)

    def value(logits):
        return named(loss).value((jax.nn.softmax(logits, axis=1) * problem.scores[:, :, None]).sum(1)).mean()

    np.testing.assert_allclose(g * jnp.exp(kappa), jax.grad(value)(jnp.asarray(a)), atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("depth", [10.0, 1e3, 1e6])
def test_scaled_gradient_is_right_at_any_depth(problem, dtype, depth):
    """At logits spread by `depth` the exact scaled gradient is known in closed form: one competitor per sequence."""
    scores = problem.scores
    top, second = np.argsort(-scores, axis=1)[:, :2].T
    rows = np.arange(3)
    a = np.full((3, 4), -10 * depth)
    a[rows, top], a[rows, second] = 0.0, -depth
    phi = scaled_map(jnp.asarray(a[:, :, None], dtype), scores_of(problem, dtype))
    np.testing.assert_allclose(phi.log_scale[:, 0, 0], -depth, rtol=1e-6)
    slope = named("logistic").slope(scores_of(problem, dtype).best - phi.deficit)
    g, kappa = phi.pull(*slope, scores_of(problem, dtype))
    competing = np.exp(-depth)
    weight = 1 / (1 + competing)
    gap = scores[rows, top] - scores[rows, second]
    margin = scores[rows, top] - competing * weight * gap
    expected = -1 / (1 + np.exp(margin)) / 3 * weight**2 * gap
    expected *= np.exp(-depth - np.float64(kappa[0]))
    got = np.asarray(g)[:, :, 0]
    np.testing.assert_allclose(got[rows, top], expected, rtol=64 * np.finfo(dtype).eps * max(1, depth))
    np.testing.assert_allclose(got[rows, second], -got[rows, top], rtol=64 * np.finfo(dtype).eps)
    assert abs(float(log_attention_gap(jnp.asarray(a[:, :, None], dtype))[0]) + depth) <= 1e-6 * depth + competing


def exact_gradient(a, s):
    """Σ_t φ_t (s_t - m) with 400 digits, for one sequence and slope 1, as (mantissa, log of its largest entry)."""
    with mp.workdps(400):
        w = [mp.exp(mp.mpf(float(v))) for v in a]
        total = mp.fsum(w)
        m = mp.fdot(w, [mp.mpf(float(v)) for v in s]) / total
        g = [x / total * (mp.mpf(float(v)) - m) for x, v in zip(w, s, strict=True)]
        top = max(abs(v) for v in g)
        return np.array([float(v / top) for v in g]), float(mp.log(top))


HARD = {
    "zero logits": ([0, 0, 0, 0], [1.0, 0.7, 0.2, 0.1]),
    "tie of best and another": ([0, 0, -1, -2], [1.0, 0.7, 0.2, 0.1]),
    "tie of two others": ([-3, 0, 0, -2], [1.0, 0.7, 0.2, 0.1]),
    "runner-up with an equal score": ([-60, 0, -1, -2], [1.0, 0.7, 0.7, 0.7]),
    "runner-up with an equal score, far": ([-700, 0, -1, -2], [1.0, 0.0, 0.0, 0.0]),
    "peers above and below": ([-30, 0, -80, -0.5], [1.0, 0.7, 0.2, 0.7]),
    "large common score": ([0, -20, -25, -30], [1001.0, 1000.7, 1000.2, 1000.1]),
    "close scores": ([0, -20, -21, -30], [1.0, 1.0 - 2.0**-30, 0.5, 0.1]),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", HARD)
def test_hard_sequences_against_400_digits(name, dtype):
    a, s = (np.array(v, float) for v in HARD[name])
    deficits = s.max() - s
    scores = Scores(
        jnp.asarray(deficits[None, :, None], dtype), jnp.full((1, 1, 1), s.max(), dtype), len(set(s)) == len(s)
    )
    phi = scaled_map(jnp.asarray(a[None, :, None], dtype), scores)
    g, kappa = phi.pull(jnp.ones((1, 1, 1), dtype), jnp.zeros((1, 1, 1), dtype), scores)
    got = -np.asarray(g, np.float64)[0, :, 0]
    mantissa, log_top = exact_gradient(a, s)
    top = np.abs(got).max()
    np.testing.assert_allclose(got / top, mantissa, atol=40 * np.finfo(dtype).eps)
    assert np.log(top) + float(kappa[0]) == pytest.approx(
        log_top, rel=4 * float(np.finfo(dtype).eps), abs=40 * float(np.finfo(dtype).eps)
    )


def test_sequences_of_very_different_depth_and_score():
    """One sequence deep and cheap, one shallow with an enormous score: their gradients meet at a common scale."""
    deficits = np.array([[0.0, 0.3], [0.0, 1.0]])
    scores = Scores(jnp.asarray(deficits[:, :, None]), jnp.asarray([[[800.0]], [[1.0]]]), True)
    a = jnp.asarray(np.array([[0.0, -1.0], [0.0, -900.0]])[:, :, None])
    phi = scaled_map(a, scores)
    g, kappa = phi.pull(*named("logistic").slope(scores.best - phi.deficit), scores)
    first = np.log(0.3 * np.exp(-1) / (1 + np.exp(-1)) ** 2 / 2) - (800 - 0.3 * np.exp(-1) / (1 + np.exp(-1)))
    second = np.log(1 / (1 + np.e) / 2) - 900
    np.testing.assert_allclose(np.log(-np.asarray(g)[:, 0, 0]) + float(kappa[0]), [first, second], rtol=1e-12)


def longdouble_drop(loss, s, delta):
    s, delta = np.longdouble(s), np.longdouble(delta)
    if loss == "linear":
        return np.longdouble(1)
    if loss == "exponential":
        return np.exp(-s) * np.expm1(delta) / delta
    q = 1 / (1 + np.exp(s))
    return np.log1p(q * np.expm1(delta)) / delta


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", OF_ANY_MARGIN)
def test_loss_drop_has_all_its_digits(loss, dtype):
    deltas = np.concatenate(
        [np.geomspace(1e-30, 0.9, 60), [0.24999, 0.25, 0.25001, 0.5, 0.99999, 1.0, 1.00001, 3.0, 20.0]]
    )
    for s in (-5.0, -0.5, 0.0, 0.7, 4.0, 12.0):
        s = float(dtype(s))
        got = np.asarray(named(loss).drop(jnp.full(len(deltas), s, dtype), jnp.asarray(deltas, dtype)))
        wanted = np.array([float(longdouble_drop(loss, s, float(dtype(d)))) for d in deltas])
        np.testing.assert_allclose(got, wanted, rtol=40 * np.finfo(dtype).eps)
    at_zero = named(loss).drop(jnp.asarray(0.3, dtype), jnp.asarray(0.0, dtype))
    p, q = named(loss).slope(jnp.asarray(0.3, dtype))
    slope = p * np.exp(q)
    np.testing.assert_allclose(at_zero, slope, rtol=8 * np.finfo(dtype).eps)


def test_far_drop_does_not_overflow():
    assert np.isfinite(named("logistic").drop(jnp.float32(500.0), jnp.float32(900.0)))


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
def test_frames_are_isometries(problem, coordinates):
    frame = frame_of(problem, coordinates)
    rng = np.random.default_rng(0)
    W = rng.standard_normal((2, 5, 5))
    xi, _, outside = frame.project(W)
    np.testing.assert_allclose((xi**2).sum(1) + outside, (W**2).sum((1, 2)), rtol=1e-12)
    np.testing.assert_allclose(
        frame.logits(xi), np.einsum("itd,lde,ie->lit", problem.tokens, W, problem.queries), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.norm(frame.lift(xi[0])), np.linalg.norm(xi[0]), rtol=1e-12)
    mu = rng.standard_normal((1, 3, 4))
    matrix = np.einsum("it,itd,ie->de", mu[0], problem.tokens, problem.queries)
    np.testing.assert_allclose(frame.lift(frame.combine(mu)[0]), matrix, atol=1e-12)


def test_rank_deficient_problem_in_both_coordinates():
    """Six tokens in two dimensions: the Gram matrix is singular."""
    problem = jaxsim.data.unit_sphere(jax.random.key(3), n=2, T=3, d=2)
    dual, primal = frame_of(problem, "dual"), frame_of(problem, "primal")
    assert dual.rank == primal.rank == 4 and dual.size == 6
    W = np.random.default_rng(0).standard_normal((1, 2, 2))
    for frame in (dual, primal):
        xi, _, outside = frame.project(W)
        np.testing.assert_allclose(frame.lift(xi[0]), W[0], atol=1e-12)
        assert outside[0] == 0


def test_cheaper_coordinates_are_chosen():
    assert frame_of(jaxsim.data.unit_sphere(jax.random.key(0), 10, 10, 256)).kind == "dual"
    assert frame_of(jaxsim.data.unit_sphere(jax.random.key(0), 60, 16, 8)).kind == "primal"
    with pytest.raises(ValueError, match="coordinates: expected"):
        frame_of(jaxsim.data.unit_sphere(jax.random.key(0)), "polar")  # type: ignore[arg-type]

"""The model: scaled gradients against the definition, losses against high precision, coordinates against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import jaxsim
from jaxsim.model import LOSSES, attention, frame_of, named
from jaxsim.model.softmax import scaled_map


def model_at(problem, W, loss="logistic", coordinates="dual", dtype=np.float64):
    frame = frame_of(problem, coordinates)
    _, start, _ = frame.project(W[None])
    model = attention(problem, frame, named(loss), dtype)
    return frame, model, model.enter(jnp.asarray(start.T, dtype))


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
@pytest.mark.parametrize("loss", LOSSES)
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
    assert np.exp(seen["log_attention_gap"][0]) == pytest.approx((1 - phi.max(1)).max(), rel=1e-10)


@pytest.mark.parametrize("loss", ["logistic", "linear"])
def test_gradient_matches_autodiff_in_the_logits(problem, loss):
    a = np.random.default_rng(2).standard_normal((3, 4, 1))
    scores = jnp.asarray(problem.scores[:, :, None])
    phi = scaled_map(jnp.asarray(a), scores)
    g = phi.pull(named(loss).slope(phi.margin) / 3, scores) * jnp.exp(phi.log_scale)

    def value(logits):
        return named(loss).value((jax.nn.softmax(logits, axis=1) * scores).sum(1)).mean()

    np.testing.assert_allclose(g, jax.grad(value)(jnp.asarray(a)), atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("depth", [10.0, 1e3, 1e6])
def test_scaled_gradient_is_right_at_any_depth(problem, dtype, depth):
    """At logits spread by `depth` the exact scaled gradient is known in closed form: one competitor per sequence."""
    scores = problem.scores
    top, second = np.argsort(-scores, axis=1)[:, :2].T
    rows = np.arange(3)
    a = np.full((3, 4), -10 * depth)
    a[rows, top], a[rows, second] = 0.0, -depth
    phi = scaled_map(jnp.asarray(a[:, :, None], dtype), jnp.asarray(scores[:, :, None], dtype))
    assert phi.log_scale[0] == pytest.approx(-depth, rel=1e-6)
    slope = named("logistic").slope(phi.margin) / 3
    assert slope.dtype == dtype
    g = np.asarray(phi.pull(slope, jnp.asarray(scores[:, :, None], dtype)))[:, :, 0]
    competing = np.exp(-depth)
    weight = 1 / (1 + competing)
    gap = scores[rows, top] - scores[rows, second]
    margin = scores[rows, top] - competing * weight * gap
    expected = -1 / (1 + np.exp(margin)) / 3 * weight**2 * gap
    np.testing.assert_allclose(g[rows, top], expected, rtol=64 * np.finfo(dtype).eps)
    np.testing.assert_allclose(g[rows, second], -expected, rtol=64 * np.finfo(dtype).eps)
    assert abs(float(phi.log_attention_gap[0]) + depth + np.log1p(competing)) <= 1e-6 * depth


def test_ties_between_largest_logits(problem):
    """Zero logits, one tied sequence among saturated ones, and a tie that hides one of four tokens."""
    rng = np.random.default_rng(4)
    for a in (np.zeros((3, 4)), np.array([[0, 0, -1, -2], [-50, 0, -60, -70], [0, -40, -41, -42.0]])):
        a = a + rng.standard_normal((3, 1))
        phi = scaled_map(jnp.asarray(a[:, :, None]), jnp.asarray(problem.scores[:, :, None]))
        p = np.exp(a - a.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        np.testing.assert_allclose(phi.margin[:, 0, 0], (p * problem.scores).sum(1), rtol=1e-12)
        g = phi.pull(jnp.ones((3, 1, 1)), jnp.asarray(problem.scores[:, :, None]))[:, :, 0]
        expected = p * (problem.scores - (p * problem.scores).sum(1, keepdims=True))
        np.testing.assert_allclose(g * np.exp(phi.log_scale[0]), expected, atol=1e-14)
        assert np.exp(phi.log_attention_gap[0]) == pytest.approx((1 - p.max(1)).max(), rel=1e-12)


def longdouble_drop(loss, s, delta):
    s, delta = np.longdouble(s), np.longdouble(delta)
    if loss == "linear":
        return np.longdouble(1)
    if loss == "exponential":
        return np.exp(-s) * np.expm1(delta) / delta
    q = 1 / (1 + np.exp(s))
    return np.log1p(q * np.expm1(delta)) / delta


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSSES)
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
    np.testing.assert_allclose(at_zero, -named(loss).slope(jnp.asarray(0.3, dtype)), rtol=8 * np.finfo(dtype).eps)


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

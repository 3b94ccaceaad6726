"""The largest eigenvalue of the Hessian: against dense Hessians in W, and in many digits where floats hold nothing."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import jaxsim
from jaxsim.analysis import log10_sharpness, sharpness
from jaxsim.model import LOSSES, positive


def problem_of(n=3, T=4, d=5, hidden=False, ties=False):
    made = jaxsim.data.unit_sphere(jax.random.key(3), n=n, T=T, d=d)
    tokens, mask = np.array(made.tokens), None
    if hidden:
        mask = np.ones((n, T), bool)
        mask[1, 2] = False
    if ties:  # two tokens of one score
        unit = made.decoder / np.linalg.norm(made.decoder)
        tokens[0, 1] += unit * (unit @ (tokens[0, 0] - tokens[0, 1]))
    return jaxsim.Problem(tokens, made.queries, made.labels, made.decoder, mask)


def dense(problem, W, loss):
    """The largest eigenvalue of the Hessian that automatic differentiation gives in W."""

    def value(flat):
        logits = jnp.einsum("itd,de,ie->it", problem.tokens, flat.reshape(W.shape), problem.queries)
        logits = jnp.where(problem.visible, logits, -jnp.inf)
        return loss.value(jnp.sum(jax.nn.softmax(logits) * problem.scores, 1)).mean()

    return np.linalg.eigvalsh(jax.hessian(value)(jnp.asarray(W.ravel())))[-1]


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if not positive(loss)])
@pytest.mark.parametrize("kind", [{}, {"hidden": True}, {"ties": True}, {"n": 2, "T": 5, "d": 3}])
def test_it_is_that_of_the_dense_hessian(loss, kind):
    problem = problem_of(**kind)
    W = np.random.default_rng(0).normal(size=(12, *problem.W_shape))
    logits = np.einsum("itd,lde,ie->lit", problem.tokens, W, problem.queries)
    expected = [dense(problem, each, LOSSES[loss]) for each in W]
    np.testing.assert_allclose(10 ** log10_sharpness(problem, logits, LOSSES[loss]), expected, rtol=1e-8)


def by_many_digits(problem, logits):
    """log10 of the largest eigenvalue for the logistic loss, by its definition; and of its share of the largest one."""
    with mpmath.workdps(1500):
        n, T = logits.shape
        H = mpmath.zeros(n * T)
        for i in range(n):
            exps = [mpmath.exp(mpmath.mpf(x)) for x in logits[i]]
            phi = [e / mpmath.fsum(exps) for e in exps]
            s = [mpmath.mpf(x) for x in problem.scores[i]]
            m = mpmath.fsum(p * x for p, x in zip(phi, s, strict=True))
            first = -1 / (1 + mpmath.exp(m))
            second = mpmath.exp(m) / (1 + mpmath.exp(m)) ** 2
            g = [p * (x - m) for p, x in zip(phi, s, strict=True)]
            for t in range(T):
                for u in range(T):
                    inner = (g[t] if t == u else 0) - g[t] * phi[u] - phi[t] * g[u]
                    H[i * T + t, i * T + u] = (second * g[t] * g[u] + first * inner) / n
        tokens, queries = problem.tokens.reshape(n * T, -1), np.repeat(problem.queries, T, 0)
        F = mpmath.matrix(np.einsum("kd,ke->kde", tokens, queries).reshape(n * T, -1).tolist())
        M = F.T * H * F
        values = [mpmath.mpf(x) for x in mpmath.eigsy(M, eigvals_only=True)]
        top, size = max(values), max(abs(x) for x in values)
        return float(mpmath.log10(top)), float(mpmath.log10(top / size))


def test_depths_that_no_number_holds():
    """Where another eigenvalue is 10¹³ times as large and negative, that is said; else every digit is there."""
    problem = problem_of(2, 3, 3)
    sizes = np.array([1, 30, 300, 6000, 10, 10])[:, None, None]
    logits = np.random.default_rng(1).normal(size=(6, 2, 3)) * sizes
    found = log10_sharpness(problem, logits, LOSSES["logistic"])
    expected, share = np.array([by_many_digits(problem, each) for each in logits]).T
    hidden = share < -15
    assert 0 < hidden.sum() < 4 and found[3] < -300 and not (hidden ^ (share < -13)).any()
    np.testing.assert_allclose(found[~hidden], expected[~hidden], rtol=1e-9, atol=1e-9)
    assert (found[hidden] == -np.inf).all()


def test_lanczos_finds_the_same(monkeypatch):
    problem = problem_of(hidden=True)
    logits = np.random.default_rng(2).normal(size=(6, 3, 4)) * 5
    expected = log10_sharpness(problem, logits, LOSSES["logistic"])
    monkeypatch.setattr(sharpness, "DENSE", 0)
    np.testing.assert_allclose(log10_sharpness(problem, logits, LOSSES["logistic"]), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dense_below", [400, 0])
def test_a_lane_that_is_not_finite_touches_no_other(dense_below, monkeypatch):
    monkeypatch.setattr(sharpness, "DENSE", dense_below)
    problem = problem_of()
    logits = np.random.default_rng(2).normal(size=(4, 3, 4))
    good = log10_sharpness(problem, logits, LOSSES["logistic"])
    logits[1, 0, 0] = np.nan
    found = log10_sharpness(problem, logits, LOSSES["logistic"])
    assert np.isnan(found[1])
    np.testing.assert_array_equal(found[[0, 2, 3]], good[[0, 2, 3]])


def test_of_a_run():
    problem = problem_of()
    how = dict(key=jax.random.key(0), lanes=5, steps=200)
    law = jaxsim.init.Gaussian(0.1)
    run = jaxsim.simulate(problem, jaxsim.rules.GD(0.5), law, keep=("logits",), **how)
    found = run.sharpness()
    assert found.shape == run.norm.shape and (found[:, -1] < found[:, 0]).all()  # attention saturates, and L is flat
    assert (found < np.log10(2 / 0.5)).all()
    with pytest.raises(ValueError, match="keep=\\('logits',\\); this one has not kept them"):
        jaxsim.simulate(problem, jaxsim.rules.GD(0.5), law, **how).sharpness()
    joint = jaxsim.simulate(problem, jaxsim.rules.GD(0.5), law, train=jaxsim.train.Joint(), keep=("logits",), **how)
    with pytest.raises(ValueError, match="expected a run of W alone; got one of joint"):
        joint.sharpness()


def test_of_keys_that_are_not_the_tokens():
    made = problem_of()
    keys = np.random.default_rng(4).standard_normal((3, 4, 6))
    problem = jaxsim.Problem(made.tokens, made.queries, made.labels, made.decoder, keys=keys)
    W = np.random.default_rng(0).normal(size=(5, *problem.W_shape))
    logits = np.einsum("itd,lde,ie->lit", keys, W, problem.queries)

    def value(flat, s=problem.scores):
        a = jnp.einsum("itd,de,ie->it", keys, flat.reshape(W.shape[1:]), problem.queries)
        return jnp.logaddexp(0, -jnp.sum(jax.nn.softmax(a) * s, 1)).mean()

    expected = [np.linalg.eigvalsh(jax.hessian(value)(jnp.asarray(each.ravel())))[-1] for each in W]
    np.testing.assert_allclose(10 ** log10_sharpness(problem, logits, LOSSES["logistic"]), expected, rtol=1e-8)


def test_what_all_keys_have_in_common_costs_no_digits():
    """Attention does not see it. Keys are whole multiples of 2^-20, so that they and the common part add exactly."""
    made = problem_of()
    keys = np.round(made.tokens * 2**20) / 2**20
    logits = np.random.default_rng(2).normal(size=(6, 3, 4))
    near, far = (
        log10_sharpness(
            jaxsim.Problem(made.tokens, made.queries, made.labels, made.decoder, keys=keys + common),
            logits,
            LOSSES["logistic"],
        )
        for common in (0.0, 2.0**24)
    )
    np.testing.assert_allclose(far, near, rtol=0, atol=1e-8)


def test_the_stable_step_of_a_window_is_that_of_its_sharpest_pixel():
    problem = problem_of(hidden=True)
    plane = jaxsim.basins.random_plane(problem, jax.random.key(1))
    window = (-3, 2, -1, 4)
    edge = jaxsim.basins.stable_step(problem, plane, window=window, resolution=(3, 2), loss="exponential")
    starts = [
        plane.origin + a * plane.axes[0] + b * plane.axes[1]
        for b in np.linspace(-1, 4, 2)
        for a in np.linspace(-3, 2, 3)
    ]
    sharpest = max(dense(problem, W, LOSSES["exponential"]) for W in starts)
    assert edge == pytest.approx(2 / sharpest, rel=1e-8)
    with pytest.raises(ValueError, match=r"plane: expected matrices \(5, 5\)"):
        other = jaxsim.basins.random_plane(problem_of(d=6), jax.random.key(1))
        jaxsim.basins.stable_step(problem, other, window=window)


def test_gd_from_beside_a_minimum_leaves_it_where_its_step_is_longer_than_stable():
    """A bowl in W: one sequence of two tokens whose loss has its minimum inside, at labels that tell nothing apart."""
    tokens, queries = np.array([[[1.0, 0], [0, 1]]] * 2), np.ones((2, 1))
    problem = jaxsim.Problem(tokens, queries, np.array([1.0, -1.0]), np.array([1.0, -1.0]))
    plane = jaxsim.basins.plane([[1.0], [0.0]], [[0.0], [1.0]])
    edge = jaxsim.basins.stable_step(problem, plane, window=(-0.01, 0.01, -0.01, 0.01), resolution=(3, 3))
    start = jaxsim.init.Given(np.array([[[0.001], [0.0]]]))
    how = dict(key=jax.random.key(0), lanes=1, steps=40, keep=("logits",), dtype="float64")
    near, far = (jaxsim.simulate(problem, jaxsim.rules.GD(k * edge), start, **how) for k in (0.9, 1.1))
    gap = [np.abs(np.diff(run.logits[0, -1, 0])[0]) for run in (near, far)]
    assert gap[0] < 1e-4 < 1e-2 < gap[1]

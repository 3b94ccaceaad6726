"""-log m: gradients at any depth on either side, trajectories in 60 digits, the graph-SVM, what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import jaxsim
from jaxsim.analysis import log10_sharpness
from jaxsim.coordinates import frame_of
from jaxsim.margin import graph_svm
from jaxsim.model import attention
from jaxsim.model.losses import NegativeLog
from jaxsim.reproduce import next_token_runs

ROUNDING = {"float64": 1e-11, "float32": 5e-6}
LOSS = NegativeLog()


def from_logits(problem, logits):
    """g and L, from the definition in many digits."""
    n = len(logits)
    g, value = np.empty(logits.shape, object), mpmath.mpf(0)
    for i, row in enumerate(logits):
        weights = [mpmath.exp(mpmath.mpf(a)) for a in row]
        total = mpmath.fsum(weights)
        m = mpmath.fsum(w for w, s in zip(weights, problem.scores[i], strict=True) if s) / total
        rest = mpmath.fsum(w for w, s in zip(weights, problem.scores[i], strict=True) if not s) / total  # 1 - m
        for t, (w, s) in enumerate(zip(weights, problem.scores[i], strict=True)):
            g[i, t] = (-(w / total) * rest / m if s else w / total) / n
        value -= (mpmath.log(m) if m < 0.5 else mpmath.log1p(-rest)) / n
    return g, value


@pytest.mark.parametrize("dtype", list(ROUNDING))
@pytest.mark.parametrize("depth", [0.0, 30.0, 20_000.0])
@pytest.mark.parametrize("side", ["towards the labels", "away from them", "either"])
def test_gradient_and_gap_have_their_digits(depth, side, dtype):
    problem = jaxsim.data.next_token(jax.random.key(2), n=5, T=4)
    logits = depth * np.abs(np.random.default_rng(0).standard_normal((5, 4)))
    sign = {"towards the labels": 1, "away from them": -1, "either": np.array([1, -1, 1, -1, 1])[:, None]}[side]
    logits = np.where(problem.scores == 1, sign, -sign) * logits
    logits = np.asarray(logits, dtype).astype(float)
    model = attention(problem, frame_of(problem, "dual"), LOSS, dtype)
    g, kappa, gap, gap_scale, least = model.in_logits(jnp.asarray(logits[:, :, None], dtype))
    with mpmath.workdps(60):
        exact, value = from_logits(problem, logits)
        unit = mpmath.exp(-mpmath.mpf(float(kappa[0])))
        wanted = np.array([[float(x * unit) for x in row] for row in exact])
        np.testing.assert_allclose(g[:, :, 0], wanted, rtol=ROUNDING[dtype], atol=1e-30)
        assert float(np.abs(wanted).max()) > 1e-3  # so the scale is right, too
        found = mpmath.mpf(float(gap[0])) * mpmath.exp(mpmath.mpf(float(gap_scale[0])))
        assert abs(float(found / value) - 1) < ROUNDING[dtype] and least[0] == 0


def test_autodiff_is_wrong_there():
    problem = jaxsim.data.next_token(jax.random.key(2), n=1, T=3)
    logits = jnp.asarray(np.where(problem.scores == 1, -800.0, 0.0))
    autodiff = jax.grad(lambda a: -jnp.log((jax.nn.softmax(a) * problem.scores).sum()))(logits)
    model = attention(problem, frame_of(problem, "dual"), LOSS, np.float64)
    g, kappa, *_ = model.in_logits(logits[:, :, None])
    right = (g * jnp.exp(kappa))[:, :, 0]
    np.testing.assert_allclose(right, np.where(problem.scores == 1, -1.0, 0.5), rtol=1e-14)
    assert not np.allclose(autodiff, right)


@pytest.mark.parametrize("dtype", list(ROUNDING))
@pytest.mark.parametrize("coordinates", ["dual", "primal"])
def test_trajectories_match_sixty_digits(coordinates, dtype):
    problem = jaxsim.data.next_token(jax.random.key(3), n=3, T=3, K=5, d=8)
    steps, eta = 120, 0.25
    start = np.float32(400 * np.random.default_rng(4).standard_normal((8, 8))).astype(float)
    run = jaxsim.simulate(
        problem, jaxsim.rules.NGD(eta), jaxsim.init.Given(start), key=jax.random.key(0), lanes=1, steps=steps,
        loss=LOSS, dtype=dtype, coordinates=coordinates, keep=("coeffs",), record=[0, steps],
    )  # fmt: skip
    with mpmath.workdps(60):
        exact = np.vectorize(mpmath.mpf, otypes=[object])
        x, z = exact(problem.keys).reshape(-1, 8), exact(np.repeat(problem.queries, 3, axis=0))
        gram, c = (x @ x.T) * (z @ z.T), exact(np.zeros(9))
        logits = ((x @ exact(start)) * z).sum(1)
        first = logits.reshape(3, 3).astype(float)
        for _ in range(steps):
            g = from_logits(problem, logits.reshape(3, 3))[0].ravel()
            pull = gram @ g
            step = mpmath.mpf(eta) / mpmath.sqrt(g @ pull)
            c, logits = c - step * g, logits - step * pull
        moved = np.einsum("m,md,me->de", c.astype(float), problem.keys.reshape(-1, 8), z.astype(float))
        gap = float(mpmath.log10(from_logits(problem, logits.reshape(3, 3))[1]))
    assert (np.where(problem.scores == 1, first, -np.inf).max(1) < first.max(1) - 300).any()  # deep on the wrong side
    found = np.einsum("it,itd,ie->de", run.coeffs[0, -1], problem.keys, problem.queries)  # type: ignore[index]
    np.testing.assert_allclose(found, moved, rtol=0, atol=ROUNDING[dtype] * np.abs(moved).max())
    assert abs(run.log10_gap[0, -1] - gap) < ROUNDING[dtype]


def test_it_is_what_the_published_experiment_does():
    batch = next_token_runs.draw(2, 2)
    path = next_token_runs.descend(batch, next_token_runs.likelihood, eta=0.01, record=[500], published=False)
    for k in range(2):
        problem = jaxsim.data.token_labels(batch.embeddings[k], batch.sequences[k], batch.labels[k])
        run = jaxsim.simulate(
            problem, jaxsim.rules.NGD(0.01), jaxsim.init.Given(batch.starts[k]), key=jax.random.key(0), lanes=1,
            steps=500, loss=LOSS,
        )  # fmt: skip
        np.testing.assert_allclose(run.W(0), path.W[0, k], atol=1e-11)


def test_without_cycles_every_start_ends_at_the_graph_svm():
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((6, 8))
    sequences = np.stack([rng.permutation(6)[:4] for _ in range(6)])
    labels = sequences.min(1)  # no token outranks a lesser one
    problem, svm = jaxsim.data.token_labels(embeddings, sequences, labels), graph_svm(embeddings, sequences, labels)
    run = jaxsim.simulate(
        problem, jaxsim.rules.NGD(0.5), jaxsim.init.Gaussian(3.0), key=jax.random.key(1), lanes=5, steps=4000,
        loss=LOSS,
    )  # fmt: skip
    assert (run.verdict == "global").all() and run.direction_error[:, -1].max() < 0.1
    np.testing.assert_allclose(jaxsim.max_margin(problem).W, svm.W, atol=1e-9 * svm.norm)


def test_sharpness_is_that_of_the_dense_hessian_and_has_its_digits_on_the_wrong_side():
    problem = jaxsim.data.next_token(jax.random.key(2), n=3, T=3, d=3)
    W = np.random.default_rng(0).standard_normal((2, 3, 3))

    def value(flat):
        logits = jnp.einsum("itd,de,ie->it", problem.keys, flat.reshape(3, 3), problem.queries)
        return -jnp.log((jax.nn.softmax(logits) * problem.scores).sum(1)).mean()

    hessian = jax.jit(jax.hessian(value))
    expected = [np.linalg.eigvalsh(hessian(jnp.asarray(w.ravel())))[-1] for w in W]
    logits = np.einsum("itd,lde,ie->lit", problem.keys, W, problem.queries)
    np.testing.assert_allclose(10 ** log10_sharpness(problem, logits, LOSS), expected, rtol=1e-8)
    one = jaxsim.data.next_token(jax.random.key(2), n=1, T=3)
    away = np.where(one.scores == 1, -5000.0, 0.0)[None]  # 1 - φ_label is 1: the Hessian is that of log-sum-exp
    other = one.keys[0, one.scores[0] == 0]
    exact = ((other[0] - other[1]) @ (other[0] - other[1])) * (one.queries[0] @ one.queries[0]) / 4
    np.testing.assert_allclose(10 ** log10_sharpness(one, away, LOSS), exact, rtol=1e-12)


def test_what_is_refused():
    how: Any = dict(key=jax.random.key(0), lanes=1, steps=1, loss=LOSS)
    sphere = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    with pytest.raises(ValueError, match="loss: negative-log needs token scores of at least 0"):
        jaxsim.simulate(sphere, jaxsim.rules.NGD(0.1), jaxsim.init.Zero(), **how)
    problem = jaxsim.data.next_token(jax.random.key(0))
    with pytest.raises(ValueError, match="loss: expected one of any margin, as a trained decoder may give"):
        jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), jaxsim.init.Zero(), train=jaxsim.train.Joint(), **how)
    with pytest.raises(ValueError, match="loss: expected one of any margin; got negative-log"):
        jaxsim.regress(np.eye(2), [1, -1], jaxsim.rules.NGD(0.1), jaxsim.init.Zero(), **how)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 3]}, "labels: expected a token of each sequence; sequence 1 has none"),
        ({"labels": [0]}, "labels: expected 2 token numbers"),
        ({"sequences": [[0, 1, 2], [1, 1, 2]]}, "sequences: expected distinct tokens; sequence 1 repeats one"),
        ({"sequences": [[0, 1, 6], [1, 0, 2]]}, "sequences: expected tokens from 0 to K - 1 = 5; got some from 0 to 6"),
        ({"sequences": [0, 1]}, "sequences: expected token numbers of shape"),
        ({"embeddings": np.ones((6, 2))}, "keys: expected distinct keys within a sequence"),
    ],
)
def test_bad_sequences_are_explained(change, message):
    given = {"embeddings": np.eye(6), "sequences": [[0, 1, 2], [1, 0, 2]], "labels": [0, 1]} | change
    with pytest.raises(ValueError, match=message):
        jaxsim.data.token_labels(**given)
    with pytest.raises(ValueError, match="K: expected at least 4; got 3"):
        jaxsim.data.next_token(jax.random.key(0), K=3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gap_of_a_token_that_scores_just_below_the_best(dtype):
    """L - L* = 2^-40 to all digits: a difference of logarithms would have none of them in float32."""
    q, keys = np.ones((1, 6)), np.random.default_rng(0).standard_normal((1, 3, 6))
    problem = jaxsim.Problem(np.array([[[1.0], [1 - 2.0**-40], [0.0]]]), q, [1.0], [1.0], keys=keys)
    start = np.outer(np.linalg.pinv(keys[0]) @ [-60.0, 0, -60.0], q[0] / (q[0] @ q[0]))
    run = jaxsim.simulate(
        problem, jaxsim.rules.NGD(0.01), jaxsim.init.Given(start[None]), key=jax.random.key(0), lanes=1, steps=1,
        loss=jaxsim.losses.NegativeLog(), dtype=dtype,
    )  # fmt: skip
    np.testing.assert_allclose(run.log10_gap[0, 0], -40 * np.log10(2), rtol=1e-6)


def test_scores_that_leave_margins_without_digits_are_refused():
    q, keys = np.ones((2, 6)), np.random.default_rng(0).standard_normal((2, 3, 6))
    hidden = np.array([[True, False, False], [True, True, True]])
    for scores, mask, message in (
        ([1.0, 1e-6, 0.0], None, "at least 0.01 of the best"),
        ([0.0, 1.0, 0.5], hidden, "one of every sequence above"),
    ):
        problem = jaxsim.Problem(np.array([scores, [1.0, 0.0, 0.5]])[:, :, None], q, [1, 1], [1.0], mask, keys)
        with pytest.raises(ValueError, match=message):
            jaxsim.simulate(
                problem, jaxsim.rules.NGD(0.1), jaxsim.init.Zero(), key=jax.random.key(0), lanes=1, steps=1,
                loss=jaxsim.losses.NegativeLog(), dtype="float32",
            )  # fmt: skip

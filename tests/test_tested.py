"""Test sequences of a problem: nothing is trained on them, and a run says how many of their labels it predicts."""

import jax
import numpy as np
import oracle
import pytest

import jaxsim
from jaxsim.coordinates import frame_of
from jaxsim.data import label_noise, prompt
from jaxsim.train.tested import accuracies

GD, HOW = jaxsim.rules.GD(0.05), dict(key=jax.random.key(1), steps=40, record=[0, 10])


@pytest.fixture(scope="module")
def noisy():
    return label_noise(jax.random.key(0), n=6, T=4, d=10, signal=3, flipped=0.3, tests=30)


def self_attention(seed):
    """Another set of sequences of one family, under the same decoder."""
    family = [jaxsim.data.unit_sphere(jax.random.key(seed + k), n=n, T=T, d=5) for k, n, T in ((0, 4, 5), (1, 20, 3))]
    first, other = family
    test = jaxsim.Problem(other.tokens, other.queries, other.labels, first.decoder)
    return jaxsim.Problem(first.tokens, first.queries, first.labels, first.decoder, test=test)


def shares(problem, W, u=None):
    """y f(x) > 0 on training and test sequences, straight from W and u."""
    found = []
    for part in (problem, problem.test):
        phi = oracle.forward(part, W, "logistic")[2]
        scores = part.scores if u is None else part.labels[:, None] * (part.tokens @ u)
        found.append(((phi * scores).sum(1) > 0).mean())
    return found


@pytest.mark.parametrize("coordinates", ["dual", "primal", "full"])
def test_accuracy_is_that_of_plain_descent_in_W(coordinates):
    problem = self_attention(3)
    run = jaxsim.simulate(problem, GD, jaxsim.init.Zero(), lanes=1, coordinates=coordinates, **HOW)
    for k, step in enumerate(run.steps):
        wanted = shares(problem, oracle.train(problem, np.zeros((5, 5)), "gd", 0.05, step))
        assert [run.more[name][0, k] for name in ("train_accuracy", "test_accuracy")] == wanted
    assert 0 < run.more["test_accuracy"][0, -1] < 1


def test_random_starts_count_as_far_as_they_lie_in_the_span_of_the_training_rows():
    problem = self_attention(3)
    how = dict(lanes=6, **HOW)
    runs = [
        jaxsim.simulate(problem, GD, jaxsim.init.Given(W), coordinates=kind, **how)
        for kind in ("dual", "full")
        for W in [np.random.default_rng(0).standard_normal((6, 5, 5))]
    ]
    rows = np.einsum("itd,ie->itde", problem.tokens, problem.queries).reshape(-1, 25)
    inside = np.linalg.pinv(rows) @ rows
    for lane, W in enumerate(np.random.default_rng(0).standard_normal((6, 25)) @ inside):
        wanted = shares(problem, oracle.train(problem, W.reshape(5, 5), "gd", 0.05, 40))
        for run in runs:
            assert [run.more[name][lane, -1] for name in ("train_accuracy", "test_accuracy")] == wanted


def test_a_decoder_that_is_trained_is_the_one_that_predicts(noisy):
    """Against plain descent in p and u, from u = 0, where every margin is 0 and nothing is right."""
    joint = jaxsim.train.Joint(decoder=np.zeros(10))
    run = jaxsim.simulate(noisy, GD, jaxsim.init.Zero(), lanes=1, train=joint, **HOW)
    p, u = np.zeros(10), np.zeros(10)
    for _ in range(40):
        a = noisy.tokens @ p
        phi = np.exp(a - a.max(1, keepdims=True))
        phi /= phi.sum(1, keepdims=True)
        signed = noisy.labels[:, None, None] * noisy.tokens
        m = np.einsum("it,itd,d->i", phi, signed, u)
        slope = -1 / (1 + np.exp(m)) / len(m)
        pull = slope[:, None] * phi * (signed @ u - m[:, None])
        p, u = (
            p - 0.05 * np.einsum("it,itd->d", pull, noisy.tokens),
            u - 0.05 * np.einsum("i,it,itd->d", slope, phi, signed),
        )
    got = [run.more[name][0] for name in ("train_accuracy", "test_accuracy")]
    assert [values[-1] for values in got] == shares(noisy, p[:, None], u)
    assert [values[0] for values in got] == [0, 0]


def test_lanes_that_are_no_numbers_predict_nothing(noisy):
    frame = frame_of(noisy, "dual")
    xi = np.random.default_rng(0).standard_normal((3, 2, frame.size))
    xi[1, 1, 0], xi[2, 0, :2] = np.nan, (np.inf, -np.inf)
    for u in (None, np.broadcast_to(noisy.decoder, (3, 2, 10))):
        for values in accuracies(noisy, frame, xi, u).values():
            assert np.isnan(values).tolist() == [[False, False], [False, True], [True, False]]


def test_tests_change_nothing_of_the_run(noisy):
    alone = prompt(noisy.tokens, noisy.labels, noisy.decoder)
    runs = [
        jaxsim.simulate(p, jaxsim.rules.NGD(0.5), jaxsim.init.Gaussian(1.0), lanes=8, **HOW) for p in (noisy, alone)
    ]
    np.testing.assert_array_equal(runs[0].position, runs[1].position)
    assert runs[1].more == {} and alone.fingerprint() != noisy.fingerprint()
    for train in (jaxsim.train.KeyQuery(1), jaxsim.train.Heads(2)):
        run = jaxsim.simulate(noisy, jaxsim.rules.NGD(0.5), jaxsim.init.Gaussian(1.0), lanes=2, train=train, **HOW)
        assert "test_accuracy" not in run.more


def test_one_head_of_heads_is_followed(noisy):
    runs = [
        jaxsim.simulate(noisy, GD, jaxsim.init.Gaussian(0.1), lanes=4, train=train, **HOW)
        for train in (jaxsim.train.Heads(1), jaxsim.train.Weights())
    ]
    np.testing.assert_array_equal(runs[0].more["test_accuracy"], runs[1].more["test_accuracy"])


def test_tests_are_kept_in_files(noisy, tmp_path):
    jaxsim.data.save(noisy, tmp_path / "p.npz")
    assert jaxsim.data.load(tmp_path / "p.npz").fingerprint() == noisy.fingerprint()
    with_keys = prompt(
        noisy.tokens, noisy.labels, noisy.decoder, np.eye(10)[:, :7],
        test=prompt(noisy.test.tokens, noisy.test.labels, noisy.decoder, np.eye(10)[:, :7]),
    )  # fmt: skip
    run = jaxsim.simulate(with_keys, GD, jaxsim.init.Zero(), lanes=2, **HOW)
    run.save(tmp_path / "run.npz")
    back = jaxsim.Run.load(tmp_path / "run.npz")
    assert back.problem.fingerprint() == with_keys.fingerprint()
    np.testing.assert_array_equal(back.more["test_accuracy"], run.more["test_accuracy"])
    assert {"train_accuracy", "test_accuracy"} <= set(back.to_pandas().columns)
    jaxsim.data.save(with_keys, tmp_path / "k.npz")
    assert jaxsim.data.load(tmp_path / "k.npz").test.fingerprint() == with_keys.test.fingerprint()


def test_tests_that_do_not_fit_are_refused(noisy):
    def given(test):
        return prompt(noisy.tokens, noisy.labels, noisy.decoder, test=test)

    with pytest.raises(ValueError, match="test: expected a jaxsim.Problem without tests of its own; got 3"):
        given(3)
    with pytest.raises(ValueError, match="without tests of its own; got Problem\\(n=6, T=4, d=10, 30 tests\\)"):
        given(noisy)
    with pytest.raises(ValueError, match=r"test: expected W of shape \(10, 1\) and d = 10; got \(9, 1\) and 9"):
        given(label_noise(jax.random.key(0), d=9, tests=0))
    other = prompt(noisy.test.tokens, noisy.test.labels, np.arange(10.0))
    np.testing.assert_array_equal(given(other).test.decoder, noisy.decoder)


def test_label_noise_is_what_it_says():
    told = dict(n=40, T=3, d=30, signal=50.0, noise=2.0, tests=25)
    problem = label_noise(jax.random.key(5), flipped=0.25, **told)
    clean = label_noise(jax.random.key(5), flipped=0, **told)
    assert (problem.labels != clean.labels).sum() == 10 and problem.test.visible.shape == (25, 3)
    np.testing.assert_array_equal(problem.tokens, clean.tokens)
    np.testing.assert_array_equal(problem.test.labels, clean.test.labels)
    assert (clean.scores[:, 0] > 25).all() and (problem.test.scores[:, 0] > 25).all()  # 50/√2 and its noise
    spread = problem.tokens[:, 1:].std()
    assert 1.9 < spread < 2.1  # of 2,400 numbers with standard deviation 2: three standard errors are 0.09
    assert label_noise(jax.random.key(5), tests=0).test is None
    for name, value in dict(flipped=1.0, tests=-1, noise=0, signal=-1, d=1).items():
        with pytest.raises(ValueError, match=f"{name}: expected"):
            label_noise(jax.random.key(0), **{name: value})

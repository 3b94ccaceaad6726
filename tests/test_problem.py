"""Problem and its families: what is accepted, what is refused and how it is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsim


def parts(**changes):
    rng = np.random.default_rng(0)
    good = dict(
        tokens=rng.standard_normal((3, 4, 5)),
        queries=rng.standard_normal((3, 5)),
        labels=np.array([1, -1, 1]),
        decoder=rng.standard_normal(5),
    )
    return good | changes


def with_entry(name, index, value):
    array = np.array(parts()[name], float)
    array[index] = value
    return {name: array}


def duplicate_tokens():
    tokens = parts()["tokens"]
    tokens[1, 3] = tokens[1, 0]
    return {"tokens": tokens}


def tied_scores():
    tokens = parts()["tokens"]
    tokens[2, :2, 1:] = tokens[2, 0, 1:]
    tokens[2, :2, 0] = [5.0, -5.0]
    tokens[2, 2:] = 0.01 * tokens[2, 2:]
    u = np.zeros(5)
    u[1:] = tokens[2, 0, 1:]
    return {"tokens": tokens, "decoder": u}


BAD = {
    "tokens of two axes": (dict(tokens=np.ones((3, 4))), r"tokens: expected shape \(n, T, d\); got \(3, 4\)"),
    "no sequences": (dict(tokens=np.ones((0, 4, 5))), "tokens: expected at least n = 1"),
    "one token": (dict(tokens=np.ones((3, 1, 5))), "tokens: expected at least n = 1 sequence, T = 2"),
    "queries of wrong shape": (dict(queries=np.ones((2, 5))), r"queries: expected shape \(n, e\).*got \(2, 5\)"),
    "query index out of range": (dict(queries=4), "queries: expected token indices from 0 to T - 1 = 3; got 4"),
    "labels of wrong shape": (dict(labels=[1, -1]), r"labels: expected shape \(n,\) = \(3,\); got \(2,\)"),
    "labels of zero": (dict(labels=[1, 0, 1]), r"labels: expected \+1 or -1; got \[0.0\]"),
    "labels as words": (dict(labels=["a", "b", "c"]), "labels: expected real numbers"),
    "decoder of wrong shape": (dict(decoder=np.ones(4)), r"decoder: expected shape \(d,\) = \(5,\); got \(4,\)"),
    "decoder of zeros": (dict(decoder=np.zeros(5)), "decoder: expected a non-zero vector"),
    "nan token": (
        with_entry("tokens", (1, 2, 3), np.nan),
        r"tokens: expected finite numbers; got nan at index \(1, 2, 3\)",
    ),
    "inf query": (
        with_entry("queries", (0, 1), np.inf),
        r"queries: expected finite numbers; got inf at index \(0, 1\)",
    ),
    "nan decoder": (with_entry("decoder", 2, np.nan), "decoder: expected finite numbers"),
    "duplicate tokens": (duplicate_tokens(), "tokens 0 and 3 of sequence 1 are equal"),
    "tie for the top score": (tied_scores(), "of sequence 2 tie for the top score.*Leave the sequence out"),
    "mask of wrong shape": (dict(mask=np.ones((3, 3), bool)), r"mask: expected booleans of shape \(n, T\) = \(3, 4\)"),
    "mask of numbers": (dict(mask=np.ones((3, 4))), "mask: expected booleans"),
    "mask hides a sequence": (dict(mask=np.array([[True] * 4, [False] * 4, [True] * 4])), "sequence 1 has none"),
    "mask leaves one token each": (dict(mask=np.eye(3, 4, dtype=bool)), "at least two visible tokens"),
    "mask hides the query": (
        dict(queries=[0, 1, 0], mask=np.array([[True] * 4, [True, False, True, True], [True] * 4])),
        "mask: hides the query token 1 of sequence 1",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_problem(name):
    changes, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        jaxsim.Problem(**parts(**changes))


def test_good_problem_is_frozen_float64_and_a_pytree():
    given = parts(mask=np.array([[True, True, True, False]] + [[True] * 4] * 2))
    problem = jaxsim.Problem(**given)
    assert problem.tokens.dtype == np.float64
    given["tokens"][0, 0, 0] = 99.0
    assert problem.tokens[0, 0, 0] != 99.0
    with pytest.raises(ValueError):
        problem.tokens[0, 0, 0] = 1.0
    leaves, shape = jax.tree.flatten(problem)
    again = jax.tree.unflatten(shape, leaves)
    assert again.fingerprint() == problem.fingerprint()
    assert jax.jit(lambda p: p.tokens.sum())(problem) == pytest.approx(problem.tokens.sum())


def test_scores_and_optimal_tokens_respect_the_mask():
    full = jaxsim.Problem(**parts())
    expected = parts()["labels"][:, None] * np.einsum("itd,d->it", parts()["tokens"], parts()["decoder"])
    np.testing.assert_allclose(full.scores, expected, rtol=1e-14)
    mask = np.ones((3, 4), bool)
    mask[0, full.optimal[0]] = False
    assert jaxsim.Problem(**parts(mask=mask)).optimal[0] != full.optimal[0]


def test_ties_below_the_top_are_allowed():
    x = np.array([[[2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]])
    assert jaxsim.Problem(x, [[1.0, 1.0]], [1], [1.0, 0.0]).optimal.tolist() == [0]


FAMILIES = {
    "unit_sphere": lambda key: jaxsim.data.unit_sphere(key, 4, 3, 6),
    "signal_noise": lambda key: jaxsim.data.signal_noise(key, 4, 3, 6),
    "orthonormal": lambda key: jaxsim.data.orthonormal(key, 2, 3, 8),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_depend_on_the_key_alone(family):
    make = FAMILIES[family]
    assert make(jax.random.key(1)).fingerprint() == make(jax.random.key(1)).fingerprint()
    assert make(jax.random.key(1)).fingerprint() == make(jax.random.PRNGKey(1)).fingerprint()
    assert make(jax.random.key(1)).fingerprint() != make(jax.random.key(2)).fingerprint()


def test_family_geometry():
    sphere = jaxsim.data.unit_sphere(jax.random.key(0), self_attention=True)
    np.testing.assert_allclose(np.linalg.norm(sphere.tokens, axis=-1), 1, rtol=1e-12)
    np.testing.assert_array_equal(sphere.queries, sphere.tokens[:, 0])
    flat = jaxsim.data.orthonormal(jax.random.key(0), 2, 3, 8).tokens.reshape(6, 8)
    np.testing.assert_allclose(flat @ flat.T, np.eye(6), atol=1e-12)
    signal = jaxsim.data.signal_noise(jax.random.key(0), n=40, signal=3.0, noise=0.1)
    norms = np.linalg.norm(signal.tokens[np.arange(40), signal.optimal], axis=-1)
    np.testing.assert_allclose(norms, 3.0, rtol=1e-12)


def test_digits_are_those_of_scikit_learn():
    """They are read without importing it."""
    from sklearn.datasets import load_digits

    from jaxsim.data.images import _bundle

    target, images = _bundle()
    np.testing.assert_array_equal(target, load_digits().target)
    np.testing.assert_array_equal(images, load_digits().images)


def test_digits():
    problem = jaxsim.data.digits()
    assert problem.shape == (20, 4, 16) and problem.labels.tolist() == [-1.0] * 10 + [1.0] * 10
    np.testing.assert_allclose(problem.tokens.mean((0, 1)), 0, atol=1e-12)
    np.testing.assert_allclose(problem.queries, problem.tokens.mean(1), atol=1e-15)
    assert jaxsim.data.digits(positions=True).shape == (20, 4, 20)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaxsim.data.digits(classes=(3, 3)), "classes: expected two different digits"),
        (lambda: jaxsim.data.digits(classes=(3, 11)), "classes: expected two different digits"),
        (lambda: jaxsim.data.digits(images=7), "images: expected an even number"),
        (lambda: jaxsim.data.digits(images=10**6), "images: the data set has"),
        (lambda: jaxsim.data.digits(ridge=0), "ridge: expected a number above 0"),
        (lambda: jaxsim.data.unit_sphere(jax.random.key(0), n=0), "n: expected at least 1"),
        (lambda: jaxsim.data.unit_sphere(jax.random.key(0), T=1), "T: expected at least 2"),
        (lambda: jaxsim.data.orthonormal(jax.random.key(0), 4, 4, 15), "d: expected at least n·T = 16"),
        (lambda: jaxsim.data.signal_noise(jax.random.key(0), noise=-1), "noise: expected a number above 0"),
    ],
)
def test_bad_family(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_file_round_trip(tmp_path):
    problem = jaxsim.Problem(**parts(mask=np.array([[True, True, True, False]] + [[True] * 4] * 2)))
    jaxsim.data.save(problem, tmp_path / "p.npz")
    assert jaxsim.data.load(tmp_path / "p.npz").fingerprint() == problem.fingerprint()


def test_bad_files(tmp_path):
    with pytest.raises(ValueError, match="expected a readable .npz file"):
        jaxsim.data.load(tmp_path / "absent.npz")
    (tmp_path / "noise.npz").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="expected a readable .npz file"):
        jaxsim.data.load(tmp_path / "noise.npz")
    np.savez(tmp_path / "part.npz", tokens=parts()["tokens"], labels=parts()["labels"])
    with pytest.raises(ValueError, match="lacks queries, decoder"):
        jaxsim.data.load(tmp_path / "part.npz")
    np.savez(tmp_path / "evil.npz", **{**parts(), "tokens": np.array([object()])})
    with pytest.raises(ValueError, match="expected a readable .npz file"):
        jaxsim.data.load(tmp_path / "evil.npz")
    np.save(tmp_path / "single.npy", np.ones(3))
    with pytest.raises(ValueError, match="holds a single array"):
        jaxsim.data.load(tmp_path / "single.npy")


@pytest.mark.parametrize("key", [0, np.zeros(2, np.uint32), jnp.zeros(5), jax.random.split(jax.random.key(0))])
def test_what_is_no_single_key_is_refused(key):
    with pytest.raises(ValueError, match="key: expected a JAX key such as jax.random.key"):
        jaxsim.data.unit_sphere(key)
    known = jaxsim.data.unit_sphere(jax.random.key(0), n=2, T=3, d=4)
    assert known.fingerprint() == jaxsim.data.unit_sphere(jax.random.PRNGKey(0), n=2, T=3, d=4).fingerprint()
    with pytest.raises(ValueError, match="key: expected a JAX key"):
        jaxsim.simulate(known, jaxsim.rules.NGD(0.1), jaxsim.init.Zero(), key=key, lanes=1, steps=1)

"""Sizes are held against memory before anything is allocated; the tests pretend to have little."""

import warnings

import jax
import numpy as np
import pytest
import threadpoolctl

import jaxsim
from jaxsim import _machine
from jaxsim.init import Gaussian, Given
from jaxsim.rules import NGD, Adam

MIB = 2**20


@pytest.fixture
def little(monkeypatch):
    """So much memory, in MiB."""
    return lambda size: monkeypatch.setattr(_machine, "memory", lambda: size * MIB)


def run(problem, rule=None, lanes=4, steps=50, law=None, **more):
    """A small run."""
    rule, law = rule or NGD(0.1), law or Gaussian(0.1)
    return jaxsim.simulate(problem, rule, law, key=jax.random.key(0), lanes=lanes, steps=steps, **more)


def test_memory_is_that_of_this_process():
    assert 64 * MIB < _machine.memory() < 2**60


def test_what_fits_is_allowed_and_what_does_not_is_named(little):
    little(10)
    _machine.need("d", 10 * MIB, "rows")
    with pytest.raises(ValueError, match=r"^d: rows need 10.5 MB of memory; this process may use 10.5 MB$"):
        _machine.need("d", 10 * MIB + 1, "rows")
    with pytest.raises(ValueError, match=r"^d: rows need 10\^291 GB of memory; this process may use 10.5 MB$"):
        _machine.need("d", 10**300, "rows")


def test_where_nothing_is_known_everything_is_allowed(monkeypatch):
    monkeypatch.setattr(_machine, "memory", lambda: None)
    _machine.need("d", 10**30, "rows")


@pytest.mark.parametrize(
    ("family", "sizes", "name"),
    [("unit_sphere", dict(n=4, T=5, d=200_000), "d"), ("unit_sphere", dict(n=200_000, T=5, d=4), "n"),
     ("unit_sphere", dict(n=4, T=200_000, d=5), "T"), ("orthonormal", dict(n=2, T=2, d=10**6), "d"),
     ("signal_noise", dict(n=2, T=2, d=10**6), "d")],
)  # fmt: skip
def test_families_are_refused_before_they_are_drawn(family, sizes, name, little, key, monkeypatch):
    little(32)
    monkeypatch.setattr("jaxsim.data.synthetic.generator", lambda key: pytest.fail("something was drawn"))
    with pytest.raises(ValueError, match=f"^{name}: .* memory"):
        getattr(jaxsim.data, family)(key, **sizes)


def test_a_gram_matrix_too_large_is_refused(little, key):
    problem = jaxsim.data.unit_sphere(key, n=20, T=20, d=5)
    little(4)
    with pytest.raises(ValueError, match=r"^problem: .*\(n·T\)² .*400.* memory"):
        run(problem, coordinates="dual")


def test_whole_matrices_too_large_are_refused(little, key):
    problem = jaxsim.data.unit_sphere(key, n=2, T=2, d=2000)
    little(20)
    with pytest.raises(ValueError, match="^problem: .* memory"):
        run(problem, Adam(0.1), limits="none")
    run(problem, steps=5)  # in reduced coordinates d costs nothing


def test_lanes_that_are_kept_are_refused_and_a_survey_of_them_is_not(little, key):
    problem = jaxsim.data.unit_sphere(key, n=3, T=4, d=5)
    little(8)
    with pytest.raises(ValueError, match="^lanes: 20,000 lanes .* memory.*survey"):
        run(problem, lanes=20_000)
    found = jaxsim.survey(problem, NGD(0.1), Gaussian(0.1), key=key, lanes=4000, steps=50, record=[50], chunk_bytes=MIB)
    assert found.lanes == 4000
    little(1)
    with pytest.raises(ValueError, match="^lanes: .* memory"):
        run(problem, lanes=500, keep=("logits",), steps=2000)


def test_one_block_of_lanes_too_large_is_refused(little, key):
    problem = jaxsim.data.unit_sphere(key, n=3, T=4, d=5)
    little(10)
    with pytest.raises(ValueError, match="^record: 32 lanes .* memory"):
        jaxsim.survey(
            problem, NGD(0.1), Gaussian(0.1), key=key, lanes=200, steps=50_000, record=range(50_001), coordinates="dual"
        )


def test_heads_and_factors_are_refused(little, key):
    problem = jaxsim.data.unit_sphere(key, n=4, T=4, d=50)
    little(8)
    with pytest.raises(ValueError, match="^lanes: .* memory"):
        jaxsim.head.heads({"a": (problem, None)}, [NGD(0.1)], key=key, lanes=1000)
    with pytest.raises(ValueError, match="^width: .* memory"):
        run(problem, train=jaxsim.train.KeyQuery(10**6))


def test_files_are_refused_by_their_headers(little, tmp_path):
    np.savez_compressed(tmp_path / "big.npz", tokens=np.zeros((100, 100, 100)), queries=0, labels=[1], decoder=[1.0])
    little(4)
    with pytest.raises(ValueError, match=r"^data: .*big.npz.*tokens: .*8.0 MB of memory"):
        jaxsim.data.load(tmp_path / "big.npz")


def test_duplicates_are_found_without_a_matrix_of_pairs(key):
    """n·T²·d booleans would be 10 GB."""
    tokens = np.random.default_rng(0).standard_normal((1, 10_000, 100))
    jaxsim.Problem(tokens, 0, [1], np.ones(100))
    tokens[0, 9_999] = tokens[0, 17]
    with pytest.raises(ValueError, match="tokens 17 and 9999 of sequence 0 are equal"):
        jaxsim.Problem(tokens, 0, [1], np.ones(100))


def test_signed_zeros_are_equal_and_hidden_tokens_do_not_count():
    tokens = np.array([[[0.0, 1.0], [-0.0, 1.0], [1.0, 0.5]]])
    with pytest.raises(ValueError, match="tokens 0 and 1 of sequence 0 are equal"):
        jaxsim.Problem(tokens, 0, [1], [1.0, 1.0])
    jaxsim.Problem(tokens, 0, [1], [1.0, 1.0], mask=[[True, False, True]])


@pytest.mark.parametrize("imaginary", [0.0, 1.0])
def test_complex_numbers_are_refused_wherever_arrays_come_in(imaginary, problem, key):
    def c(value):
        return np.asarray(value) + 1j * imaginary

    x, z, y, u = problem.tokens, problem.queries, problem.labels, problem.decoder
    calls = {
        "tokens": lambda: jaxsim.Problem(c(x), z, y, u),
        "queries": lambda: jaxsim.Problem(x, c(z), y, u),
        "labels": lambda: jaxsim.Problem(x, z, c(y), u),
        "decoder": lambda: jaxsim.Problem(x, z, y, c(u)),
        "keys": lambda: jaxsim.Problem(x, z, y, u, keys=c(x)),
        "W0": lambda: Given(c(np.eye(5))),
        "K0": lambda: jaxsim.init.Factors(c(np.eye(5)), np.eye(5)),
        "Q0": lambda: jaxsim.init.Factors(np.eye(5), c(np.eye(5))),
        "xi": lambda: jaxsim.init.Reduced(c(np.ones((2, 3)))),
        "outside": lambda: jaxsim.init.Reduced(np.ones((2, 3)), c(np.ones(2))),
        "matrices": lambda: jaxsim.init.Span(c(np.eye(5)[None]), [[1.0]]),
        "weights": lambda: jaxsim.init.Span(np.eye(5)[None], c([[1.0]])),
        "features": lambda: jaxsim.regress(c(np.eye(3)), [1, -1, 1], NGD(0.1), Gaussian(), key=key, lanes=1, steps=1),
        "first": lambda: jaxsim.basins.plane(c(np.eye(2)), np.ones((2, 2))),
        "eta": lambda: NGD(np.complex128(0.1 + 1j * imaginary)),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns where it drops an imaginary part
        for name, call in calls.items():
            with pytest.raises(ValueError, match=f"^{name}: expected .*number"):
                call()
    joint = jaxsim.train.Joint(decoder=c(u))
    with pytest.raises(ValueError, match="^decoder: expected real numbers"):
        run(problem, train=joint)


@pytest.mark.parametrize("value", ["1.5", b"1.5", np.datetime64("2020-01-01"), np.timedelta64(3, "s")])
def test_what_only_looks_like_a_number_is_refused(value):
    with pytest.raises(ValueError, match="^decoder: expected real numbers"):
        jaxsim.Problem(np.eye(2)[None], 0, [1], np.array([value, value]))


def test_numbers_beyond_floating_point_are_refused():
    with pytest.raises(ValueError, match="^eta: expected a finite number"):
        NGD(10**400)
    with pytest.raises(ValueError, match="^decoder: expected "):
        jaxsim.Problem(np.eye(2)[None], 0, [1], [10**400, 1])
    with pytest.raises(ValueError, match="^W0: expected "):
        Given([[1.0, 2.0], [3.0]])


@pytest.mark.parametrize(
    ("part", "scale", "name", "loss"),
    [("tokens", 1e20, "tokens", "logistic"), ("tokens", 1e-30, "tokens", "logistic"),
     ("queries", 1e30, "queries", "logistic"), ("decoder", 1e30, "decoder", "linear")],
)  # fmt: skip
def test_sizes_beyond_float32_are_refused_there_and_not_in_float64(part, scale, name, loss, problem):
    parts = {"tokens": problem.tokens, "queries": problem.queries, "decoder": problem.decoder}
    parts[part] = parts[part] * scale
    if part == "tokens":
        parts["decoder"] = parts["decoder"] / scale
    large = jaxsim.Problem(labels=problem.labels, **parts)
    with pytest.raises(ValueError, match=f"^{name}: .*float32"):
        run(large, dtype="float32", loss=loss)
    run(large, loss=loss, steps=2)


def test_small_algebra_takes_one_thread_and_gives_the_others_back():
    def threads():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    with threadpoolctl.threadpool_limits(2):
        before = threads()
        assert 2 in before
        with _machine.few_threads(_machine.SMALL):
            assert set(threads()) == {1}
        with _machine.few_threads(_machine.SMALL + 1):
            assert threads() == before
        with pytest.raises(ValueError, match="inside"), _machine.few_threads(1):
            raise ValueError("inside")
        assert threads() == before

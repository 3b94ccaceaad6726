"""Many problems at once: the same runs as one by one, up to rounding."""

import jax
import numpy as np
import pytest

import jaxsim
from jaxsim import init, rules

KEY = jax.random.key(7)


def problems(count, n=3, T=4, d=5):
    return [jaxsim.data.unit_sphere(k, n=n, T=T, d=d) for k in jax.random.split(jax.random.key(1), count)]


def assert_same(many, batch, law_of, rule, **options):
    for p, (problem, run) in enumerate(zip(batch, many, strict=True)):
        alone = jaxsim.simulate(
            problem, rule, law_of(p), key=jax.random.fold_in(KEY, p), coordinates="dual", **options
        )  # fmt: skip
        assert run.problem is problem and run.settings["key"] == alone.settings["key"]
        tolerance = 1e-11 if run.settings["dtype"] == "float64" else 1e-4
        scale = np.abs(alone.final_logits).max()
        np.testing.assert_allclose(run.final_logits, alone.final_logits, atol=tolerance * scale)
        np.testing.assert_allclose(run.norm, alone.norm, rtol=tolerance)
        np.testing.assert_array_equal(run.verdict, alone.verdict)
        np.testing.assert_array_equal(run.steps, alone.steps)


@pytest.mark.parametrize("rule", [rules.NGD(0.1), rules.GD(1.0), rules.Polyak(max_step=1.0)], ids=lambda r: r.name)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_each_problem_runs_as_it_would_alone(rule, dtype):
    batch = problems(7)
    options = dict(lanes=3, steps=60, dtype=dtype)
    many = jaxsim.simulate_many(batch, rule, init.Gaussian(0.5), key=KEY, **options)
    assert_same(many, batch, lambda p: init.Gaussian(0.5), rule, **options)


@pytest.mark.parametrize("lanes", [1, 100, pytest.param(300, marks=pytest.mark.slow)])
def test_any_number_of_lanes(lanes):
    batch = problems(3)
    options = dict(lanes=lanes, steps=10)
    many = jaxsim.simulate_many(batch, rules.NGD(0.1), init.Sphere(1.0), key=KEY, **options)
    assert_same(many, batch, lambda p: init.Sphere(1.0), rules.NGD(0.1), **options)


def test_masks_and_given_starts():
    rng = np.random.default_rng(0)
    batch = []
    for p, problem in enumerate(problems(4)):
        mask = np.ones((3, 4), bool)
        mask[p % 3, 3] = p % 2 == 0
        batch.append(jaxsim.Problem(problem.tokens, problem.queries, problem.labels, problem.decoder, mask))
    laws = [init.Given(rng.standard_normal((5, 5))) for _ in batch]
    options = dict(lanes=2, steps=25)
    many = jaxsim.simulate_many(batch, rules.NGD(0.1), laws, key=KEY, **options)
    assert_same(many, batch, laws.__getitem__, rules.NGD(0.1), **options)
    np.testing.assert_allclose(many[2].W(1), many[2].W(0), rtol=1e-12)


def test_records_are_kept_on_request():
    batch = problems(3)
    options = dict(lanes=2, steps=30, record=[0, 10, 30], keep=("logits", "coeffs"))
    for p, run in enumerate(jaxsim.simulate_many(batch, rules.NGD(0.1), init.Gaussian(0.5), key=KEY, **options)):
        key = jax.random.fold_in(KEY, p)
        alone = jaxsim.simulate(batch[p], rules.NGD(0.1), init.Gaussian(0.5), key=key, coordinates="dual", **options)
        np.testing.assert_allclose(run.logits, alone.logits, atol=1e-11)
        np.testing.assert_allclose(run.coeffs, alone.coeffs, atol=1e-11)


def test_new_problems_do_not_compile_again():
    def run(batch, eta):
        jaxsim.simulate_many(batch, rules.NGD(eta), init.Gaussian(0.1), key=KEY, lanes=3, steps=20)

    run(problems(4, d=6), 0.1)
    before = jaxsim.compilations()
    run(problems(5, d=6)[1:], 0.2)
    assert jaxsim.compilations() == before


@pytest.mark.parametrize(
    ("batch", "law", "message"),
    [
        (lambda: [], init.Zero(), "problems: expected at least one problem; got none"),
        (lambda: [1.0], init.Zero(), "problems: expected jaxsim.Problem objects; problem 0 is a float"),
        (lambda: problems(1) + problems(1, T=3), init.Zero(), r"problem 1 has \(3, 3\)"),
        (lambda: problems(2), [init.Zero()], "init: expected one law, or one per problem, 2; got 1"),
    ],
)
def test_bad_input(batch, law, message):
    with pytest.raises(ValueError, match=message):
        jaxsim.simulate_many(batch(), rules.NGD(0.1), law, key=KEY, lanes=1, steps=1)


@pytest.mark.parametrize("how", [jaxsim.train.Joint(), jaxsim.train.KeyQuery(2), jaxsim.train.Weights(2, KEY)])
def test_only_W_on_all_sequences_is_trained(how):
    batch = problems(2)
    with pytest.raises(ValueError, match="train: simulate_many trains W alone, on all sequences; .* Use simulate"):
        jaxsim.simulate_many(batch, rules.NGD(0.1), init.Zero(), key=KEY, lanes=1, steps=1, train=how)

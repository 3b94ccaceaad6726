"""Numbers under attack: offsets, sizes, near-ties, interior minima and depth, against many digits in W space."""

import jax
import mpmath as mp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from wspace import Reference, exact, relative

import jaxsim
from jaxsim import rules

NGD = ("ngd", rules.NGD)


def random_problem(seed, shape, offset=0.0, sizes=1.0, spread="tokens"):
    """Gaussian tokens around a common offset that no score sees; self-attention through token 0."""
    n, T, d = shape
    rng = np.random.default_rng(seed)
    towards = np.linalg.qr(rng.normal(size=(d, d)))[0]
    x = rng.normal(size=(n, T, d)) * np.reshape(sizes, (1, -1, 1) if spread == "tokens" else (-1, 1, 1))
    u = rng.normal(size=d - 1) @ towards[1:] if d > 1 else np.ones(1)
    largest = np.abs(x @ u).max()
    offset = offset if d > 1 else 0.0  # in one dimension every score would see it
    return jaxsim.Problem(x + offset * towards[0], 0, np.resize([1.0, -1.0], n), u / largest)


def reach(problem):
    """A typical |x| |z|: a W of size 1 / reach makes logits of order one."""
    return np.linalg.norm(problem.keys, axis=2).max() * np.linalg.norm(problem.queries, axis=1).max()


def held(problem, rule, W0, steps, coordinates, digits=80, dtype=np.float64):
    """Relative errors of norm, of raw logits and of differences of logits; and the run."""
    (name, *parameters), made = rule
    reference = Reference(problem, digits)
    *_, W = [exact(W0), *reference.steps(W0, (name, *parameters), steps)]
    run = jaxsim.simulate(
        problem, made, jaxsim.init.Given(W0), key=jax.random.key(0), lanes=1, steps=steps, dtype=dtype,
        coordinates=coordinates, limits="none",
    )  # fmt: skip
    logits, found = reference.logits(W), exact(run.final_logits[0])
    apart = [a - a.mean(1, keepdims=True) for a in (found, logits)]
    differences = float(np.abs(apart[0] - apart[1]).max() / np.abs(apart[1]).max())
    norm = abs(float(mp.mpf(float(run.norm[0, -1])) / reference.norm(W) - 1))
    return norm, relative(run.final_logits[0], logits), differences, run


@pytest.mark.parametrize("coordinates", ["dual", "primal", "full"])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6, 1e8])
def test_a_common_offset_of_all_tokens_costs_nothing_but_its_own_digits(offset, coordinates):
    problem = random_problem(3, (3, 3, 4), offset)
    W0 = np.random.default_rng(1).normal(size=(4, 4)) * 0.3 / (1 + offset) / reach(problem)
    eta = 0.1 / (1 + offset)
    norm, logits, differences, run = held(problem, (("ngd", eta), rules.NGD(eta)), W0, 5, coordinates)
    assert max(norm, logits) < 1e-13
    # Differences of logits are of order 1 in sums of order `offset`.
    assert differences < 1e-13 + 3e-16 * offset
    assert coordinates != "dual" or run.settings["rank"] == 9


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
@pytest.mark.parametrize("spread", ["tokens", "sequences"])
def test_tokens_of_very_different_size(spread, coordinates):
    problem = random_problem(4, (3, 3, 4), 0.0, [1e-6, 1.0, 1e6], spread)
    W0 = np.random.default_rng(1).normal(size=(4, 4)) / reach(problem)
    eta = 0.1 / reach(problem)
    norm, logits, differences, _ = held(problem, (("ngd", eta), rules.NGD(eta)), W0, 5, coordinates)
    assert max(norm, logits, differences) < 1e-9


def test_random_starts_fill_the_whole_span_whatever_the_offset():
    spread = []
    for offset in (0.0, 1e6):
        problem = random_problem(5, (3, 3, 4), offset)
        run = jaxsim.simulate(
            problem, rules.NGD(1e-9), jaxsim.init.Gaussian(1.0), key=jax.random.key(0), lanes=4000, steps=1,
            coordinates="dual", limits="none",
        )  # fmt: skip
        spread.append((run.start**2).sum(1).mean())
    np.testing.assert_allclose(spread, 9, rtol=0.05)  # χ² with 9 degrees of freedom; 4000 draws, 7 standard errors


RULES = {
    rule.name: rule
    for rule in (rules.GD(0.5), rules.NGD(0.1), rules.Polyak(), rules.HeavyBall(0.1), rules.Nesterov(0.1),
                 rules.NormalisedMomentum(0.1), rules.AdaGradNorm(0.5), rules.Adam(0.05), rules.SignDescent(0.01))
}  # fmt: skip


def opposed(seed):
    """Keys on a line, the best token in the middle of each sequence: L has an interior minimum in the one number W."""
    rng = np.random.default_rng(seed)
    keys = np.array([-1.0, 0.0, 1.0])[None, :, None] * rng.uniform(0.5, 2.0, (2, 3, 1))
    tokens = np.array([0.0, 2.0, 0.3])[None, :, None] * np.array([1.0, -1.0])[:, None, None]
    return jaxsim.Problem(tokens, rng.uniform(0.5, 2.0, (2, 1)), [1, -1], [1.0], keys=keys)


@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float64])
@pytest.mark.parametrize("name", RULES)
def test_lanes_at_an_interior_minimum_stay_finite(name, dtype):
    rule = RULES[name]
    for seed in range(5):
        run = jaxsim.simulate(
            opposed(seed), rule, jaxsim.init.Gaussian(1.0), key=jax.random.key(seed), lanes=64, steps=3000, dtype=dtype,
            coordinates=getattr(rule, "coordinates", None) or "dual",
        )  # fmt: skip
        assert (run.nonfinite_step < 0).all(), (name, seed, int((run.nonfinite_step >= 0).sum()))
        if name in ("gd", "adagrad-norm", "heavy-ball", "nesterov"):
            assert run.converged.all()
            assert set(run.verdict) == {"unresolved"}


@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float64])
def test_many_problems_with_interior_minima(dtype):
    problems = [opposed(seed) for seed in range(5)]
    problems += [random_problem(9, (2, 3, 1)), random_problem(10, (2, 3, 5))]  # the last has independent rows
    for rule in (rules.NormalisedMomentum(0.1), rules.AdaGradNorm(0.5), rules.GD(0.5)):
        runs = jaxsim.simulate_many(
            problems, rule, jaxsim.init.Gaussian(1.0), key=jax.random.key(0), lanes=32, steps=3000, dtype=dtype
        )
        assert all((run.nonfinite_step < 0).all() for run in runs)
        if rule.name != "normalised-momentum":
            assert all(run.converged.all() for run in runs[:5]) and not runs[6].converged.any()


def test_the_minimum_is_where_it_is():
    problem = opposed(0)
    run = jaxsim.simulate(
        problem, rules.GD(0.5), jaxsim.init.Zero(), key=jax.random.key(0), lanes=1, steps=5000, coordinates="dual"
    )
    reference = Reference(problem, 40)
    least = mp.findroot(lambda w: reference.gradient(np.array([[w]], dtype=object))[0][0, 0], 0.0)
    np.testing.assert_allclose(run.norm[0, -1], abs(float(least)), rtol=1e-12)


@pytest.mark.slow
def test_a_trained_decoder_at_an_interior_minimum_stays_finite():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3, 2))
    problem = jaxsim.Problem(x, 0, np.resize([1.0, -1.0], 6), rng.normal(size=2))  # six labels in two dimensions
    for dtype in (np.float32, np.float64):
        for rule in (rules.NGD(0.05), rules.NormalisedMomentum(0.05), rules.AdaGradNorm(1.0)):
            run = jaxsim.simulate(
                problem, rule, jaxsim.init.Gaussian(0.5), key=jax.random.key(0), lanes=64, steps=4000, dtype=dtype,
                train=jaxsim.train.Joint(), coordinates="dual",
            )  # fmt: skip
            assert (run.nonfinite_step < 0).all()


def test_a_start_without_any_gradient_is_converged_and_finite():
    problem = random_problem(0, (2, 3, 4))
    for rule in (rules.NGD(0.1), rules.NormalisedMomentum(0.1), rules.HeavyBall(0.1), rules.Polyak()):
        run = jaxsim.simulate(
            problem, rule, jaxsim.init.Factors(np.zeros((4, 2)), np.zeros((4, 2))), key=jax.random.key(0), lanes=1,
            steps=5, train=jaxsim.train.KeyQuery(2, nuclear=False),
        )  # fmt: skip
        assert run.nonfinite_step[0] < 0 and run.converged[0] and (run.norm == 0).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 5e-6)])
def test_adam_is_exact_below_the_smallest_number(dtype, tolerance):
    problem = random_problem(6, (2, 3, 3))
    # Deep from the first step on: gradients of about 10^-400 at once.
    optimal = jaxsim.max_margin(problem)
    W0 = optimal.W / optimal.norm * optimal.norm * 1000.0
    rule = rules.Adam(0.05, beta2=0.9)
    *errors, run = held(problem, (("adam", 0.05, rule.beta1, rule.beta2), rule), W0, 60, None, 1200, dtype)
    assert run.log10_grad_norm[0, -1] < -400
    moved = exact(run.final_logits[0]) - Reference(problem, 1200).logits(exact(W0))
    assert errors[1] < tolerance and np.isfinite(errors).all()
    assert float(np.abs(moved).max()) > 0.5  # it did move


@pytest.mark.parametrize("gap", [1e-12, 1e-9])
@pytest.mark.parametrize("rule", [NGD, ("gd", rules.GD)], ids=lambda r: r[0])
def test_near_ties_of_the_top_score_keep_their_digits(gap, rule):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 3, 4))
    u = np.array([0.3, 0.7, -0.2, 0.5])
    for i, y in enumerate([1, -1]):
        x[i, 0] = x[i, 0] + (y * 2 - x[i, 0] @ u) * u / (u @ u)
        x[i, 1] = x[i, 1] + (x[i, 0] @ u - y * gap - x[i, 1] @ u) * u / (u @ u)
    problem = jaxsim.Problem(x, 0, [1, -1], u)
    # The top token and its rival hold all the weight, so their difference in score is the whole gradient.
    direction = np.einsum(
        "id,ie->de", problem.keys[:, 0] + problem.keys[:, 1] - 2 * problem.keys[:, 2], problem.queries
    )
    W0 = direction * 40 / np.abs(np.einsum("itd,de,ie->it", problem.keys, direction, problem.queries)).max()
    name, made = rule
    reference = Reference(problem, 60)
    gradient, _ = reference.gradient(exact(W0))
    run = jaxsim.simulate(
        problem, made(0.1), jaxsim.init.Given(W0), key=jax.random.key(0), lanes=1, steps=1, record=[0], limits="none"
    )
    assert abs(run.log10_grad_norm[0, 0] - float(mp.log10(reference.norm(gradient)))) < 1e-12


def accumulated(rule, W0, steps, dtype):
    problem = random_problem(8, (2, 3, 3))
    return jaxsim.simulate(
        problem, rule, jaxsim.init.Given(W0), key=jax.random.key(0), lanes=1, steps=steps, dtype=dtype, limits="none",
        record=[0],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "size", "steps", "tolerance"),
    [
        (rules.Mirror(0.1), 1e5, 2000, 1e-6),
        (rules.Mirror(0.1, p=3.0), 1e2, 2000, 1e-6),
        (rules.Adam(0.01), 1.0, 20_000, 5e-6),
        pytest.param(rules.AdaGradNorm(0.1), 0.1, 100_000, 1e-6, marks=pytest.mark.slow),
        (rules.NormalisedMomentum(0.01), 0.1, 20_000, 5e-6),
        (rules.Polyak(0.01, max_step=0.01), 0.1, 20_000, 5e-6),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_what_a_rule_remembers_is_as_good_in_float32(rule, size, steps, tolerance):
    W0 = np.float64(np.float32(np.random.default_rng(0).normal(size=(3, 3)) * size))
    double, single = (accumulated(rule, W0, steps, dtype) for dtype in (np.float64, np.float32))
    moved = np.abs(double.final_logits - accumulated(rule, W0, 1, np.float64).final_logits).max()
    error = np.abs(single.final_logits - double.final_logits).max()
    assert error < tolerance * max(moved, np.abs(double.final_logits).max())


SHAPES = [(1, 2, 1), (1, 2, 2), (2, 2, 1), (2, 3, 2), (3, 2, 3), (2, 3, 4), (3, 3, 2)]
EXACT = {"gd": rules.GD, "ngd": rules.NGD, "adagrad-norm": rules.AdaGradNorm}


def attack(seed, shape, offset, sizes, name, coordinates):
    assume(offset * 2.2e-16 < 1e-4 * min(sizes))  # else tokens of that size are not there, or equal
    problem = random_problem(seed, shape, offset, np.resize(sizes, shape[1]))
    W0 = np.random.default_rng(seed).normal(size=problem.W_shape) / reach(problem)
    eta = 0.05 / reach(problem) ** (2 if name == "gd" else 1)
    norm, logits, differences, run = held(problem, ((name, eta), EXACT[name](eta)), W0, 4, coordinates)
    # What the offset and the sizes cost is what they cost any sum of numbers of that size.
    graded = max(sizes) / min(sizes) * (1 + offset)
    assert max(norm, logits) < 1e-13 * (max(sizes) / min(sizes)) ** 0.5 + 1e-12, (norm, logits)
    assert differences < 1e-12 * graded or differences < 1e-8
    assert run.nonfinite_step[0] < 0


ATTACKS = dict(
    seed=st.integers(0, 10**6), shape=st.sampled_from(SHAPES), offset=st.sampled_from([0.0, 1.0, 1e4, 1e8]),
    sizes=st.sampled_from([(1.0,), (1e-8, 1.0), (1e8, 1.0), (1e4, 1e-4, 1.0)]),
    name=st.sampled_from(list(EXACT)), coordinates=st.sampled_from([None, "dual", "primal"]),
)  # fmt: skip


@settings(max_examples=12, derandomize=True, deadline=None)
@given(**ATTACKS)
def test_problems_of_every_shape_offset_and_size(**attacked):
    attack(**attacked)


@pytest.mark.slow
@settings(max_examples=500, derandomize=True, deadline=None)
@given(**ATTACKS)
def test_many_problems_of_every_shape_offset_and_size(**attacked):
    attack(**attacked)

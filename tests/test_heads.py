"""Several heads: many digits, a plain oracle, invariances, one head bit for bit, limits, leaps, bad input."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_models_reference import load, problem_of, relative

import jaxsim
from jaxsim import init, rules
from jaxsim.analysis import specialisation
from jaxsim.train import Heads, Weights

KEY = jax.random.key(3)
REFERENCE = {"heads_gd": rules.GD(1.0), "heads_ngd": rules.NGD(2.0), "heads_polyak": rules.Polyak(0.5)}


def data(n=4, T=3, d=6, seed=0):
    return jaxsim.data.unit_sphere(jax.random.key(seed), n=n, T=T, d=d)


def decoders(heads, d=6, seed=1):
    return np.random.default_rng(seed).standard_normal((heads, d))


@pytest.mark.parametrize(
    ("name", "dtype", "coordinates", "tolerance"),
    [(name, *how) for name in REFERENCE for how in (("float64", "dual", 1e-11), ("float32", "dual", 5e-6))]
    + [("heads_ngd", "float64", "primal", 1e-11), ("heads_ngd", "float32", "primal", 5e-6)],
)
def test_trajectory_matches_high_precision(name, dtype, tolerance, coordinates):
    case = load(name)
    run = jaxsim.simulate(
        problem_of(case), REFERENCE[name], init.Given(case["W0"]), key=KEY, lanes=2, steps=int(case["steps"][-1]),
        record=case["steps"].tolist(), train=Heads(len(case["decoders"]), case["decoders"]), keep=("logits",),
        dtype=dtype, coordinates=coordinates,
    )  # fmt: skip
    assert relative(run.logits[1].reshape(len(case["steps"]), -1), case["logits"]) < tolerance
    if dtype == "float64":
        np.testing.assert_allclose(run.log10_grad_norm[0], case["log10_norms"][:, 0], rtol=0, atol=1e-9)
        np.testing.assert_allclose(run.log10_gap[0], case["log10_loss"], rtol=0, atol=1e-9)


def test_the_cases_are_deeper_than_autodiff_reaches():
    assert load("heads_ngd")["log10_norms"][-1, 0] < -70
    assert load("heads_polyak")["log10_norms"][-1, 0] < -65 and load("heads_polyak")["log10_loss"][-1] < -65


def loss_of_all(problem, u, loss):
    """(1/n) Σ ℓ(Σ_h m_hi) of W (H, d, e), from the definition."""

    def value(W):
        a = jnp.einsum("itd,hde,ie->hit", problem.tokens, W, problem.queries)
        a = jnp.where(problem.visible, a, -jnp.inf)
        scores = problem.labels[:, None] * jnp.einsum("itd,hd->hit", problem.tokens, u)
        return loss((jax.nn.softmax(a, -1) * scores).sum((0, 2))).mean()

    return value


LOSSES = {"logistic": lambda m: jnp.logaddexp(0.0, -m), "exponential": lambda m: jnp.exp(-m), "linear": lambda m: -m}


@pytest.mark.parametrize(
    ("heads", "loss", "coordinates"),
    [(2, "logistic", "primal"), (3, "exponential", "dual"), (3, "linear", "full")],
)
def test_moderate_depths_agree_with_descent_on_the_matrices(heads, loss, coordinates):
    base, u = data(), decoders(heads)
    mask = np.ones((4, 3), bool)
    mask[0, 2] = mask[3, 0] = False
    problem = jaxsim.Problem(base.tokens, base.queries, base.labels, base.decoder, mask)
    value = loss_of_all(problem, u, LOSSES[loss])
    W = W0 = np.random.default_rng(5).standard_normal((heads, 6, 6))
    gradient = jax.jit(jax.grad(value))
    for _ in range(30):
        g = np.asarray(gradient(W))
        W = W - 0.2 * g / np.linalg.norm(g)  # one norm for all heads
    run = jaxsim.simulate(
        problem, rules.NGD(0.2), init.Given(W0.reshape(-1, 6)), key=KEY, lanes=1, steps=30,
        train=Heads(heads, u), loss=loss, coordinates=coordinates,
    )  # fmt: skip
    np.testing.assert_allclose(run.W(0).reshape(heads, 6, 6), W, rtol=0, atol=1e-11)
    scores = np.where(mask, problem.labels[:, None] * np.einsum("itd,hd->hit", problem.tokens, u), -np.inf)
    least = LOSSES[loss](scores.max(2).sum(0)).mean()
    np.testing.assert_allclose(10 ** run.log10_gap[0, -1], value(W) - least, rtol=1e-11)
    np.testing.assert_allclose(10 ** run.log10_grad_norm[0, -1], np.linalg.norm(gradient(W)), rtol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", [rules.GD(1.0), rules.NGD(0.1), rules.Polyak()], ids=lambda rule: rule.name)
def test_one_head_is_the_single_head_bit_for_bit(rule, dtype):
    how = dict(key=KEY, lanes=20, steps=1000, dtype=dtype, engine="xla")
    one, alone = (
        jaxsim.simulate(data(), rule, init.Gaussian(1.0), train=kind, **how) for kind in (Heads(1), Weights())
    )
    for field in ("norm", "direction_error", "log10_grad_norm", "log10_gap", "log10_attention_gap", "final_logits"):
        np.testing.assert_array_equal(getattr(one, field), getattr(alone, field))
    np.testing.assert_array_equal(one.verdict, alone.verdict)
    assert (
        one.problem.fingerprint() == alone.problem.fingerprint()
        and one.limit_norm.tolist() == alone.limit_norm.tolist()
    )


def run_of(problem, W0, u, rule=None, **how):
    rule = rules.NGD(0.1) if rule is None else rule
    options = dict(key=KEY, lanes=len(W0), steps=2000, train=Heads(len(u), u)) | how
    start = init.Given(W0.reshape(len(W0), -1, W0.shape[-1]))
    return jaxsim.simulate(problem, rule, start, **options)


def test_heads_in_another_order_and_one_head_turned_change_nothing():
    problem, u, rng = data(), decoders(3), np.random.default_rng(2)
    W0, order = rng.standard_normal((5, 3, 6, 6)), [2, 0, 1]
    one, two = run_of(problem, W0, u), run_of(problem, W0[:, order], u[order])
    logits = one.final_logits.reshape(5, 3, 4, 3)
    np.testing.assert_allclose(two.final_logits.reshape(5, 3, 4, 3), logits[:, order], rtol=1e-9, atol=1e-9)
    for name in ("head_norm", "head_direction_error"):
        np.testing.assert_allclose(two.more[name], one.more[name][:, order], rtol=1e-9)
    np.testing.assert_array_equal(two.verdict, one.verdict)
    U = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    tokens = one.problem.tokens.copy()
    tokens[4:8, :, 6:12] = tokens[4:8, :, 6:12] @ U.T  # of the second head alone
    decoder = one.problem.decoder.copy()
    decoder[6:12] = U @ decoder[6:12]
    turned = jaxsim.Problem(tokens, one.problem.queries, one.problem.labels, decoder)
    frame = jaxsim.coordinates.frame_of(turned, "dual")
    model = [
        jaxsim.model.attention(p, f, jaxsim.losses.Logistic(), np.float64, 3)
        for p, f in ((one.problem, one.frame), (turned, frame))
    ]
    there = W0.copy()
    there[:, 1] = U @ there[:, 1]
    starts = [f.project(W.reshape(5, 18, 6))[1].T for f, W in ((one.frame, W0), (frame, there))]
    gradient = jax.jit(lambda model, start: model.gradient(model.enter(start)))
    here, other = (gradient(m, jnp.asarray(s)) for m, s in zip(model, starts, strict=True))
    for a, b in zip(jax.tree.leaves(here.blocks[0].direction), jax.tree.leaves(other.blocks[0].direction), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def prompt():
    base, weights = data(), np.random.default_rng(8).standard_normal((6, 5))
    return jaxsim.data.prompt(base.tokens, base.labels, base.decoder, weights)


@pytest.mark.parametrize("problem", [data(), prompt()], ids=["queries", "prompt"])
def test_two_alike_halves_are_one_head(problem):
    """Two heads with one W and half the decoder each: f is that of one head, each gradient half of that of one."""
    W = np.random.default_rng(4).standard_normal((3, *problem.W_shape))
    pair = run_of(problem, np.stack([W, W], 1), np.stack([problem.decoder, problem.decoder]) / 2, rules.GD(1.0))
    one = jaxsim.simulate(problem, rules.GD(0.5), init.Given(W), key=KEY, lanes=3, steps=2000)
    np.testing.assert_allclose(
        pair.final_logits.reshape(3, 2, 4, 3), one.final_logits[:, None].repeat(2, 1), rtol=1e-10
    )
    np.testing.assert_allclose(pair.log10_gap, one.log10_gap, atol=1e-9)
    np.testing.assert_allclose(pair.norm, np.sqrt(2) * one.norm, rtol=1e-10)
    assert (
        (pair.more["distinct_heads"] == 1).all()
        and pair.more["distinct_heads"].shape == pair.norm.shape
        and (pair.verdict == one.verdict).all()
    )


def test_limits_are_those_of_the_single_heads_with_certificates():
    problem = data(d=12)
    run = jaxsim.simulate(
        problem, rules.NGD(0.1), init.Gaussian(1.0), key=KEY, lanes=20, steps=10_000, train=Heads(3, decoders(3, 12))
    )
    assert run.finite.all() and np.isin(run.verdict, ("global", "local")).sum() > 10
    for number in np.unique(run.selection_number)[:4]:
        selection = run.selections[number]
        whole = jaxsim.max_margin(run.problem, selection)
        alone = [jaxsim.max_margin(problem, part) for part in selection.reshape(3, -1)]
        assert whole.status == "optimal" and max(mm.gap for mm in (whole, *alone)) <= 1e-9
        np.testing.assert_allclose(whole.W, np.concatenate([mm.W for mm in alone]), atol=1e-8)
    settled = np.isin(run.verdict, ("global", "local"))
    assert (run.more["head_direction_error"][settled] < 0.02).all()
    weight = run.more["head_norm"] ** 2
    np.testing.assert_allclose(weight.sum(1) + run.outside, run.norm[:, -1] ** 2, rtol=1e-12)


def test_every_start_is_specialised_redundant_or_open():
    problem = data(n=2, T=4, d=8, seed=1)
    run = jaxsim.simulate(problem, rules.NGD(0.5), init.Gaussian(3.0), key=KEY, lanes=60, steps=2000, train=Heads(2))
    shares = specialisation(run)
    assert sum(share.count for share in shares.values()) == run.lanes == 60
    pairs = run.selection.reshape(60, 2, 2)
    alike = (pairs[:, 0] == pairs[:, 1]).all(1) & np.isin(run.verdict, ("global", "local"))
    np.testing.assert_array_equal(run.more["distinct_heads"][:, -1], 2 - (pairs[:, 0] == pairs[:, 1]).all(1))
    assert 0 < alike.sum() == shares["redundant"].count < 60 and shares["specialised"].count > 0
    with pytest.raises(ValueError, match="run: expected one of jaxsim.train.Heads; got one of weights"):
        specialisation(dataclasses.replace(run, more={}, settings=run.settings | {"train": "weights"}))


@pytest.mark.slow
def test_leaps_come_where_a_million_steps_come():
    how = dict(rule=rules.GD(1.0), steps=10**6, record=[10**5, 10**6])
    W0 = np.random.default_rng(7).standard_normal((4, 2, 6, 6))
    leapt = run_of(data(), W0, decoders(2), **how)
    stepped = run_of(data(), W0, decoders(2), stepping="every", **how)
    assert (leapt.report["leaps"] > 0).all() and (leapt.verdict == stepped.verdict).all()
    np.testing.assert_allclose(leapt.final_logits, stepped.final_logits, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(leapt.direction_error, stepped.direction_error, rtol=1e-9)


def test_a_problem_of_several_heads_stays_as_it_is():
    problem, u = data(), decoders(2)
    whole = Heads(2, u).lift(problem)
    assert whole.shape == (8, 3, 12) and whole.W_shape == (12, 6)
    assert Heads(2).lift(whole) is whole and Heads(2, u).lift(whole) is whole and Heads(1).lift(problem) is problem
    assert Heads(2, 2 * u).lift(whole).fingerprint() == Heads(2, 2 * u).lift(problem).fingerprint()
    how = dict(key=KEY, lanes=3, steps=50)
    first = jaxsim.simulate(problem, rules.NGD(0.1), init.Gaussian(1.0), train=Heads(2, u), **how)
    again = jaxsim.simulate(first.problem, rules.NGD(0.1), init.Gaussian(1.0), train=Heads(2), **how)
    np.testing.assert_array_equal(first.final_logits, again.final_logits)


def test_results_are_saved_and_surveyed(tmp_path):
    how = dict(key=KEY, lanes=6, steps=100, train=Heads(2, decoders(2)))
    run = jaxsim.simulate(data(), rules.NGD(0.1), init.Sphere(2.0), **how)
    np.testing.assert_allclose(run.norm[:, 0], 2.0, rtol=1e-12)
    run.save(tmp_path / "run.npz")
    back = jaxsim.Run.load(tmp_path / "run.npz")
    for name, value in run.more.items():
        np.testing.assert_array_equal(back.more[name], value)
    last = jaxsim.simulate(data(), rules.NGD(0.1), init.Sphere(2.0), record=[], **how)
    np.testing.assert_array_equal(last.more["distinct_heads"], run.more["distinct_heads"][:, -1:])
    found = jaxsim.survey(data(), rules.NGD(0.1), init.Sphere(2.0), **how)
    assert found.problem.shape == (8, 3, 12) and found.counts.sum() == 6


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda: Heads(0), "heads: expected at least 1; got 0"),
        (lambda: dict(train=Heads(2, np.ones((3, 6)))), r"decoders: expected .*\(H, d\)"),
        (lambda: dict(start=init.Given(np.ones((6, 6)))), r"W0: expected matrices \(12, 6\); got \(6, 6\)"),
        (lambda: dict(train=Heads(2, 300 * decoders(2))), "decoder: token scores reach"),
        (lambda: dict(start=init.Factors(np.ones((6, 2)), np.ones((6, 2)))), "init: Factors start K and Q"),
    ],
)
def test_what_is_wrong_is_said(how, message):
    with pytest.raises(ValueError, match=message):
        given = dict(train=Heads(2), start=init.Gaussian(1.0)) | how()
        jaxsim.simulate(
            data(), rules.NGD(0.1), given["start"], key=KEY, lanes=1, steps=1, train=given["train"], dtype="float32"
        )


def test_a_loss_of_probabilities_is_of_one_head():
    how = dict(key=KEY, lanes=1, steps=2, loss=jaxsim.losses.NegativeLog())
    problem = jaxsim.data.next_token(KEY, n=2)
    jaxsim.simulate(problem, rules.NGD(0.1), init.Zero(), train=Heads(1), **how)
    with pytest.raises(ValueError, match="loss: expected one that takes margins of either sign"):
        jaxsim.simulate(problem, rules.NGD(0.1), init.Zero(), train=Heads(2), **how)


def test_scores_of_all_heads_are_added_before_they_are_held_against_the_range():
    u = np.stack([data().decoder] * 2)
    one, both = 60 / data().scores.max(), dict(key=KEY, lanes=1, steps=1, dtype="float32")
    jaxsim.simulate(data(), rules.NGD(0.1), init.Zero(), train=Heads(1, one * u[:1]), **both)  # up to 80
    with pytest.raises(ValueError, match="reach 120"):
        jaxsim.simulate(data(), rules.NGD(0.1), init.Zero(), train=Heads(2, one * u), **both)

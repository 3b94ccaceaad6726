"""simulate end to end: oracle, invariances, chunks, compilations, damaged lanes, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest

import jaxsim
from jaxsim.rules import RULES

NGD = jaxsim.rules.NGD
RULE_AT = {name: 0.05 if name in ("ngd", "normalised-momentum") else 0.5 for name in RULES}


def given(lanes, d, scale=0.3, seed=0):
    return jaxsim.init.Given(scale * np.random.default_rng(seed).standard_normal((lanes, d, d)))


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
@pytest.mark.parametrize("loss", ["logistic", "exponential", "linear"])
@pytest.mark.parametrize("rule", RULES)
def test_agrees_with_plain_numpy_on_W(problem, key, rule, loss, coordinates):
    start = given(3, 5)
    run = jaxsim.simulate(
        problem, RULES[rule](RULE_AT[rule]), start, key=key, lanes=3, steps=25, loss=loss, coordinates=coordinates
    )
    for lane in range(3):
        W = oracle.train(problem, start.W0[lane], rule, RULE_AT[rule], 25, loss)
        np.testing.assert_allclose(run.W(lane), W, atol=1e-10)
        assert run.norm[lane, -1] == pytest.approx(np.linalg.norm(W), rel=1e-11)
        mm = jaxsim.max_margin(problem, run.selection[lane])
        error = np.linalg.norm(W / np.linalg.norm(W) - mm.W / mm.norm)
        assert run.direction_error[lane, -1] == pytest.approx(error, rel=1e-9)


def test_masked_problem_agrees_with_plain_numpy(problem, key):
    mask = np.array([[True, True, True, False], [True] * 4, [False, True, True, True]])
    masked = jaxsim.Problem(problem.tokens, problem.queries, problem.labels, problem.decoder, mask)
    start = given(2, 5)
    run = jaxsim.simulate(masked, NGD(0.05), start, key=key, lanes=2, steps=40)
    for lane in range(2):
        np.testing.assert_allclose(run.W(lane), oracle.train(masked, start.W0[lane], "ngd", 0.05, 40), atol=1e-10)
    assert mask[np.arange(3), run.selection].all()


@pytest.mark.parametrize("rule", RULES)
def test_dual_and_primal_agree(problem, key, rule):
    runs = [
        jaxsim.simulate(
            problem,
            RULES[rule](RULE_AT[rule]),
            given(4, 5, 1.0),
            key=key,
            lanes=4,
            steps=300,
            coordinates=c,
            keep=("logits",),
        )
        for c in ("dual", "primal")
    ]
    np.testing.assert_allclose(runs[0].logits, runs[1].logits, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(runs[0].norm, runs[1].norm, rtol=1e-10)
    np.testing.assert_allclose(runs[0].direction_error, runs[1].direction_error, rtol=1e-9)


def test_rotated_tokens_and_queries(problem, key):
    rng = np.random.default_rng(8)
    P, Q = (np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(2))
    turned = jaxsim.Problem(problem.tokens @ P.T, problem.queries @ Q.T, problem.labels, P @ problem.decoder)
    start = given(4, 5, 1.0)
    moved = jaxsim.init.Given(np.einsum("ab,lbc,dc->lad", P, start.W0, Q))
    one = jaxsim.simulate(problem, NGD(0.1), start, key=key, lanes=4, steps=500)
    two = jaxsim.simulate(turned, NGD(0.1), moved, key=key, lanes=4, steps=500)
    np.testing.assert_allclose(one.final_logits, two.final_logits, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(two.W(0), P @ one.W(0) @ Q.T, atol=1e-9)
    assert (one.verdict == two.verdict).all()


def test_permuted_sequences_and_tokens(problem, key):
    order, places = np.array([2, 0, 1]), np.array([3, 1, 0, 2])
    shuffled = jaxsim.Problem(
        problem.tokens[order][:, places], problem.queries[order], problem.labels[order], problem.decoder
    )
    start = given(4, 5, 1.0)
    one = jaxsim.simulate(problem, NGD(0.1), start, key=key, lanes=4, steps=500)
    two = jaxsim.simulate(shuffled, NGD(0.1), start, key=key, lanes=4, steps=500)
    np.testing.assert_allclose(one.final_logits[:, order][:, :, places], two.final_logits, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(one.direction_error, two.direction_error, rtol=1e-9)


def test_one_sequence_two_tokens_closed_form(key):
    """The logit difference alone moves: under NGD by η‖x_1 - x_2‖‖z‖ a step, towards the better token."""
    x = np.array([[[3.0, 0.0], [0.0, 4.0]]])
    problem = jaxsim.Problem(x, [[2.0, 0.0]], [1], [1.0, 0.0])
    run = jaxsim.simulate(problem, NGD(0.1), jaxsim.init.Zero(), key=key, lanes=1, steps=200, record=range(201))
    difference = run.norm[0] * 10.0
    np.testing.assert_allclose(run.norm[0], 0.1 * run.steps, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(run.log10_attention_gap[0] * np.log(10), -np.log1p(np.exp(difference)), rtol=1e-12)
    np.testing.assert_allclose(run.direction_error[0, 1:], 0, atol=1e-12)
    assert np.isnan(run.direction_error[0, 0])


def test_orthonormal_sequences_decouple(key):
    """K = I: GD on all sequences is GD on each with step η/n, logit by logit."""
    problem = jaxsim.data.orthonormal(jax.random.key(4), n=3, T=4, d=12)
    run = jaxsim.simulate(problem, jaxsim.rules.GD(3.0), given(1, 12), key=key, lanes=1, steps=200)
    for i in range(3):
        alone = jaxsim.Problem(problem.tokens[[i]], problem.queries[[i]], problem.labels[[i]], problem.decoder)
        single = jaxsim.simulate(alone, jaxsim.rules.GD(1.0), given(1, 12), key=key, lanes=1, steps=200)
        np.testing.assert_allclose(single.final_logits[0, 0], run.final_logits[0, i], rtol=1e-11, atol=1e-12)


@pytest.fixture(scope="module")
def rugged():
    """The family of the published experiment, on which runs end in several places."""
    return jaxsim.data.unit_sphere(jax.random.key(1), n=6, T=8, d=10)


CHUNKED = dict(key=jax.random.key(5), lanes=100, steps=300)


@pytest.mark.promise
@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_results_do_not_depend_on_the_chunk(rugged, chunk, dtype):
    whole = jaxsim.simulate(rugged, NGD(0.1), jaxsim.init.Gaussian(1.0), dtype=dtype, **CHUNKED)
    parts = jaxsim.simulate(rugged, NGD(0.1), jaxsim.init.Gaussian(1.0), dtype=dtype, chunk_lanes=chunk, **CHUNKED)
    for name in ("start", "outside", "final_logits", "direction_error", "log10_gap", "norm"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    np.testing.assert_array_equal(whole.verdict, parts.verdict)
    assert len(set(whole.verdict)) > 1


def test_chunks_are_bounded_and_reported(problem, key):
    seen = []
    jaxsim.simulate(
        problem, NGD(0.1), jaxsim.init.Gaussian(1.0), key=key, lanes=500, steps=5, chunk_lanes=128,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert len(seen) >= 3 and seen[-1] == (500, 500)


@pytest.mark.promise
def test_more_lanes_extend_the_same_draws(problem, key):
    few = jaxsim.simulate(problem, NGD(0.1), jaxsim.init.Gaussian(1.0), key=key, lanes=20, steps=50)
    many = jaxsim.simulate(problem, NGD(0.1), jaxsim.init.Gaussian(1.0), key=key, lanes=300, steps=50)
    np.testing.assert_array_equal(few.start, many.start[:20])
    np.testing.assert_array_equal(few.verdict, many.verdict[:20])
    np.testing.assert_allclose(few.final_logits, many.final_logits[:20], rtol=1e-12)


@pytest.mark.promise
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_nonfinite_lane_leaves_the_others_bit_for_bit(problem, key, dtype):
    starts = given(40, 5, 1.0).W0.copy()
    sound = jaxsim.simulate(problem, NGD(0.1), jaxsim.init.Given(starts), key=key, lanes=40, steps=200, dtype=dtype)
    starts[17] = 1e39 if dtype == "float32" else 1e308
    run = jaxsim.simulate(problem, NGD(0.1), jaxsim.init.Given(starts), key=key, lanes=40, steps=200, dtype=dtype)
    assert run.verdict[17] == "nonfinite" and run.nonfinite_step[17] == 0
    others = np.arange(40) != 17
    assert (run.verdict[others] == sound.verdict[others]).all() and (run.nonfinite_step[others] == -1).all()
    for name in ("final_logits", "direction_error", "log10_gap", "log10_attention_gap", "norm"):
        np.testing.assert_array_equal(getattr(run, name)[others], getattr(sound, name)[others])
    assert run.summary()["nonfinite"] == [{"lane": 17, "first_recorded_step": 0}]
    assert sum(p.count for p in run.fractions().values()) == 40


def test_a_nonfinite_lane_of_a_masked_problem(problem, key):
    mask = np.ones((3, 4), bool)
    mask[0, 0] = False
    masked = jaxsim.Problem(problem.tokens, problem.queries, problem.labels, problem.decoder, mask)
    starts = given(4, 5, 1.0).W0.copy()
    starts[2] = 1e308
    run = jaxsim.simulate(masked, NGD(0.1), jaxsim.init.Given(starts), key=key, lanes=4, steps=50)
    assert run.verdict[2] == "nonfinite" and run.finite.sum() == 3 and mask[np.arange(3), run.selection].all()


@pytest.mark.parametrize(
    ("loss", "dtype"), [("logistic", "float32"), ("exponential", "float32"), ("logistic", "float64")]
)
def test_scores_out_of_range_are_refused(problem, key, loss, dtype):
    size = 81.0 if dtype == "float32" else 701.0
    large = jaxsim.Problem(
        problem.tokens, problem.queries, problem.labels, problem.decoder * size / problem.scores.max()
    )
    with pytest.raises(ValueError, match="decoder: token scores reach .* leaves the range of"):
        jaxsim.simulate(large, NGD(0.1), given(1, 5), key=key, lanes=1, steps=1, loss=loss, dtype=dtype)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scale", [5.0, 60.0])
def test_large_scores_in_float32_follow_float64(problem, key, rule, scale):
    large = jaxsim.Problem(
        problem.tokens, problem.queries, problem.labels, problem.decoder * scale / problem.scores.max()
    )
    eta = {"gd": 1.0, "ngd": 0.1, "normalised-momentum": 0.1}.get(rule, 0.5)
    runs = [
        jaxsim.simulate(large, RULES[rule](eta), given(2, 5), key=key, lanes=2, steps=10, dtype=dtype)
        for dtype in ("float32", "float64")
    ]
    np.testing.assert_allclose(runs[0].final_logits, runs[1].final_logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(runs[0].log10_gap, runs[1].log10_gap, atol=1e-4)


def test_numpy_integers_are_fine(problem, key, tmp_path):
    run = jaxsim.simulate(problem, NGD(1 / 3), given(2, 5), key=key, lanes=np.int64(2), steps=np.int32(5))
    run.save(tmp_path / "run")
    assert jaxsim.Run.load(tmp_path / "run").settings["rule"] == f"NGD(eta={1 / 3!r})"


@pytest.mark.parametrize("rule", RULES)
def test_sweeps_compile_once(problem, rule):
    def sweep(eta, seed, scale, steps):
        jaxsim.simulate(
            problem, RULES[rule](eta), jaxsim.init.Gaussian(scale), key=jax.random.key(seed), lanes=24, steps=steps,
            record=[0, steps // 2],
        )  # fmt: skip

    sweep(0.1, 0, 1.0, 64)
    before = jaxsim.compilations()
    for eta, seed, scale, steps in [(0.2, 0, 1.0, 64), (0.1, 1, 1.0, 64), (0.1, 0, 0.5, 64), (1, 2, 2.0, 128)]:
        sweep(eta, seed, scale, steps)
    other = jaxsim.data.unit_sphere(jax.random.key(99), n=3, T=4, d=5)
    jaxsim.simulate(
        other, RULES[rule](0.1), jaxsim.init.Gaussian(), key=jax.random.key(0), lanes=24, steps=9, record=[0, 3]
    )
    assert jaxsim.compilations() == before


@pytest.mark.parametrize("rule", RULES)
def test_schedules_are_followed(problem, key, rule):
    schedule = optax.exponential_decay(RULE_AT[rule], transition_steps=10, decay_rate=0.5)
    start = given(1, 5)
    run = jaxsim.simulate(problem, RULES[rule](schedule), start, key=key, lanes=1, steps=25)
    W = oracle.train(problem, start.W0[0], rule, lambda k: float(schedule(k)), 25)
    np.testing.assert_allclose(run.W(0), W, atol=1e-6)


def test_polyak_caps_and_counts_in_a_local_basin(key):
    """Deep in a local basin L - L* stays positive: the step would be infinite; it is capped, counted and finite."""
    problem = jaxsim.data.digits(positions=True)
    alpha = np.zeros(20, int)
    mm = jaxsim.max_margin(problem, alpha)
    assert not np.array_equal(alpha, problem.optimal)
    start = jaxsim.init.Given(200 * mm.W / mm.norm * mm.norm)
    run = jaxsim.simulate(problem, jaxsim.rules.Polyak(max_step=50.0), start, key=key, lanes=1, steps=1, record=[0, 1])
    assert run.report["capped_steps"][0] == 1
    moved = run.W(0) - start.W0
    assert np.linalg.norm(moved) == pytest.approx(50.0, rel=1e-9)
    longer = jaxsim.simulate(problem, jaxsim.rules.Polyak(), start, key=key, lanes=1, steps=2000)
    assert longer.finite.all() and longer.report["capped_steps"][0] > 0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_common_part_of_the_tokens_does_not_spoil_float32(problem, key, dtype):
    """Tokens shifted along a direction that the decoder does not see: the same dynamics of W."""
    away = np.linalg.svd(problem.decoder[None])[2][-1] * 100.0
    start = given(2, 5)
    runs = [
        jaxsim.simulate(
            jaxsim.Problem(problem.tokens + shift, problem.queries, problem.labels, problem.decoder),
            NGD(0.1), start, key=key, lanes=2, steps=300, dtype=dtype,
        )
        for shift in (0.0, away)
    ]  # fmt: skip
    tolerance = 1e-9 if dtype == "float64" else 3e-4
    np.testing.assert_allclose(runs[1].W(0), runs[0].W(0), atol=tolerance * runs[0].norm[0, -1])


def test_large_scores_and_small_tokens_in_float32(key):
    """Slopes of e^-60 and Gram matrices of 1e-24 stay within reach of float32."""
    base = jaxsim.data.unit_sphere(jax.random.key(5), n=3, T=4, d=6, self_attention=True)
    start = given(1, 6)
    reference = jaxsim.simulate(base, NGD(0.1), start, key=key, lanes=1, steps=200)
    small = jaxsim.Problem(1e-6 * base.tokens, 0, base.labels, 1e6 * base.decoder)
    run = jaxsim.simulate(
        small, NGD(0.1 * 1e12), jaxsim.init.Given(1e12 * start.W0), key=key, lanes=1, steps=200, dtype="float32"
    )
    np.testing.assert_allclose(run.final_logits, reference.final_logits, atol=1e-4)
    high = jaxsim.Problem(
        np.concatenate([base.tokens, 60.0 * base.labels[:, None, None] * np.ones((3, 4, 1))], axis=-1),
        np.concatenate([base.tokens[:, 0], np.zeros((3, 1))], axis=-1),
        base.labels,
        np.append(base.decoder, 1.0),
    )
    wide = np.zeros((7, 7))
    wide[:6, :6] = start.W0[0]
    runs = [
        jaxsim.simulate(high, NGD(0.1), jaxsim.init.Given(wide), key=key, lanes=1, steps=200, dtype=dtype)
        for dtype in ("float64", "float32")
    ]
    assert all(run.finite.all() for run in runs) and runs[0].log10_grad_norm[0, -1] < -26
    np.testing.assert_allclose(runs[1].final_logits, runs[0].final_logits, atol=1e-4)


def test_what_a_mask_hides_does_not_matter(problem, key):
    mask = np.ones((3, 4), bool)
    mask[:, 3] = False
    runs = []
    for hidden in (0.0, 1e8):
        tokens = problem.tokens.copy()
        tokens[:, 3] = hidden
        masked = jaxsim.Problem(tokens, problem.queries, problem.labels, problem.decoder, mask)
        runs.append(jaxsim.simulate(masked, NGD(0.1), jaxsim.init.Gaussian(0.3), key=key, lanes=8, steps=200))
    for name in ("final_logits", "norm", "direction_error", "start"):
        np.testing.assert_array_equal(getattr(runs[0], name), getattr(runs[1], name))


def test_sequences_of_very_different_size_agree_in_both_coordinates(problem, key):
    tokens = problem.tokens.copy()
    tokens[0] *= 1e-4
    uneven = jaxsim.Problem(tokens, problem.queries, problem.labels, problem.decoder)
    dual, primal = (
        jaxsim.simulate(uneven, NGD(0.3), given(3, 5), key=key, lanes=3, steps=200, coordinates=c)
        for c in ("dual", "primal")
    )
    np.testing.assert_allclose(dual.norm, primal.norm, rtol=1e-9)


def test_polyak_with_a_given_optimal_loss(problem, key):
    start = given(2, 5)
    star = oracle.infimum(problem, "logistic")
    exact = jaxsim.simulate(problem, jaxsim.rules.Polyak(0.5), start, key=key, lanes=2, steps=10)
    same = jaxsim.simulate(problem, jaxsim.rules.Polyak(0.5, optimal_loss=star), start, key=key, lanes=2, steps=10)
    zero = jaxsim.simulate(problem, jaxsim.rules.Polyak(0.5, optimal_loss=0.0), start, key=key, lanes=2, steps=10)
    np.testing.assert_allclose(exact.final_logits, same.final_logits, rtol=1e-9, atol=1e-12)
    assert not np.allclose(exact.final_logits, zero.final_logits)


def test_float64_refused_when_switched_off(problem, key, monkeypatch):
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match='dtype: expected float32.*jax.config.update\\("jax_enable_x64", True\\)'):
            jaxsim.simulate(problem, NGD(0.1), jaxsim.init.Zero(), key=key, lanes=1, steps=1, dtype="float64")
        run = jaxsim.simulate(problem, NGD(0.1), jaxsim.init.Gaussian(), key=key, lanes=2, steps=3)
        assert run.settings["dtype"] == "float32"
    finally:
        jax.config.update("jax_enable_x64", True)


BAD = [
    (dict(lanes=0), "lanes: expected at least 1; got 0"),
    (dict(lanes=1.5), "lanes: expected a whole number; got 1.5"),
    (dict(steps=0), "steps: expected at least 1; got 0"),
    (dict(record=[5, 11]), "record: expected steps up to the horizon 10; got 11"),
    (dict(record=[-1]), "record: expected at least 0; got -1"),
    (dict(loss="hinge"), "loss: expected one of logistic, exponential, linear, negative-log or a Smooth; got 'hinge'"),
    (dict(dtype="float16"), "dtype: expected float32 or float64; got float16"),
    (dict(coordinates="polar"), "coordinates: expected 'dual', 'primal'"),
    (dict(keep=("weights",)), "keep: expected 'logits' and 'coeffs'"),
    (dict(chunk_lanes=0), "chunk_lanes: expected at least 1"),
    (dict(init=jaxsim.init.Given(np.zeros((3, 3)))), r"W0: expected matrices \(5, 5\); got \(3, 3\)"),
    (dict(init=jaxsim.init.Given(np.zeros((7, 5, 5)))), "W0: expected one matrix per lane, 4; got 7"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_arguments(problem, key, changes, message):
    arguments = dict(init=jaxsim.init.Gaussian(), key=key, lanes=4, steps=10) | changes
    with pytest.raises(ValueError, match=message):
        jaxsim.simulate(problem, NGD(0.1), arguments.pop("init"), **arguments)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("problem", 3, "problem: expected a jaxsim.Problem; got int"),
        ("rule", NGD, "rule: expected a rule such as"),
        ("init", 0.3, "init: expected a law such as"),
        ("init", jaxsim.init.Zero, "init: expected a law such as"),
        ("key", 1, "key: expected a JAX key"),
    ],
)
def test_wrong_types(problem, key, name, value, message):
    good = dict(problem=problem, rule=NGD(0.1), init=jaxsim.init.Zero(), key=key) | {name: value}
    with pytest.raises(ValueError, match=message):
        jaxsim.simulate(good["problem"], good["rule"], good["init"], key=good["key"], lanes=1, steps=1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("eta", [0, -1, np.nan, np.inf, "a", jnp.asarray(-2.0)])
def test_bad_step_sizes(rule, eta):
    with pytest.raises(ValueError, match="(eta|scale): expected a"):
        RULES[rule](eta)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jaxsim.init.Gaussian(0), "scale: expected a number above 0"),
        (lambda: jaxsim.init.Sphere(-1), "radius: expected a number above 0"),
        (lambda: jaxsim.init.Sphere(np.nan), "radius: expected a finite number"),
        (lambda: jaxsim.init.Given(np.zeros(3)), r"W0: expected shape \(d, e\) or \(lanes, d, e\)"),
        (lambda: jaxsim.init.Given(np.full((2, 2), np.nan)), "W0: expected finite numbers"),
        (lambda: jaxsim.rules.Polyak(max_step=0), "max_step: expected a number above 0"),
        (lambda: jaxsim.rules.Polyak(optimal_loss=np.inf), "optimal_loss: expected a finite number"),
    ],
)
def test_bad_laws_and_caps(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_limits_of_saturated_lanes_only():
    problem = jaxsim.data.unit_sphere(jax.random.key(4), n=4, T=5, d=3)
    options = dict(key=jax.random.key(0), lanes=60, steps=60, chunk_lanes=16)
    law = jaxsim.init.Gaussian(8.0)
    every = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), law, **options)
    some = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), law, limits="saturated", **options)
    saturated = every.log10_attention_gap[:, -1] <= np.log10(every.thresholds.saturation)
    assert 0 < saturated.sum() < 60
    np.testing.assert_array_equal(some.direction_error[saturated], every.direction_error[saturated])
    assert np.isnan(some.direction_error[~saturated]).all()
    np.testing.assert_array_equal(some.verdict[saturated], every.verdict[saturated])
    assert set(some.verdict[~saturated]) == {"unresolved"}
    solved = some.limit_status != "unsolved"
    assert 0 < solved.sum() < len(solved)
    assert set(some.selection_number[saturated]) == set(np.flatnonzero(solved))
    with pytest.raises(ValueError, match="limits: expected 'all', 'saturated' or 'none'; got 'some'"):
        jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), law, limits="some", **options)

"""Joint training of W and u: references, invariances, limits and rates, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_models_reference import load, problem_of, relative

import jaxsim
from jaxsim import init, rules, train
from jaxsim.model.minibatch import members

KEY = jax.random.key(0)
REFERENCE = {
    "joint_gd": rules.PerBlock(rules.GD(1.0), rules.GD(0.5)),
    "joint_ngd": rules.NGD(0.5),
    "joint_polyak": rules.Polyak(0.5),
}


@pytest.mark.parametrize("coordinates", ["dual", "primal"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 5e-6)])
@pytest.mark.parametrize("name", REFERENCE)
def test_trajectory_matches_high_precision(name, dtype, tolerance, coordinates):
    case = load(name)
    run = jaxsim.simulate(
        problem_of(case), REFERENCE[name], init.Given(case["W0"]), key=KEY, lanes=2, steps=int(case["steps"][-1]),
        record=case["steps"].tolist(), train=train.Joint(), keep=("logits",), dtype=dtype, coordinates=coordinates,
    )  # fmt: skip
    R = len(case["steps"])
    assert relative(run.logits[1].reshape(R, -1), case["logits"]) < tolerance
    assert relative(run.more["decoder"][:1], case["decoder"][-1:]) < tolerance
    wanted = np.linalg.norm(case["decoder"], axis=1)
    np.testing.assert_allclose(run.more["decoder_norm"][0], wanted, rtol=tolerance)
    if dtype == "float64":
        np.testing.assert_allclose(run.more["log10_loss"][0], case["log10_loss"], rtol=1e-10, atol=1e-9)
        whole = np.log10((10.0 ** (case["log10_norms"] - case["log10_norms"].max(1, keepdims=True)) ** 1) ** 2 @ [1, 1])
        np.testing.assert_allclose(run.log10_grad_norm[0], whole / 2 + case["log10_norms"].max(1), rtol=1e-9, atol=1e-8)


def follow(name, rule, dtype, coordinates, **how):
    """Logits, final decoder and log10 loss against the case, largest relative errors; the log in digits."""
    case = load(name)
    run = jaxsim.simulate(
        problem_of(case), rule, init.Given(case["W0"]), key=KEY, lanes=2, steps=int(case["steps"][-1]),
        record=case["steps"].tolist(), train=train.Joint(**how), keep=("logits",), dtype=dtype, coordinates=coordinates,
    )  # fmt: skip
    logits = run.logits[1].reshape(len(case["steps"]), -1)
    loss = np.abs(run.more["log10_loss"][0] - case["log10_loss"]).max()
    return relative(logits, case["logits"]), relative(run.more["decoder"][:1], case["decoder"][-1:]), loss


@pytest.mark.parametrize("coordinates", ["dual", "primal", "full"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 5e-6)])
def test_batches_match_high_precision(dtype, tolerance, coordinates):
    case, order = load("joint_batch"), jax.random.key(9)
    shown = [members(order, jnp.asarray(k), 3, 2) for k in range(12)]
    np.testing.assert_array_equal(shown, case["batches"][:12])
    errors = follow("joint_batch", rules.NGD(0.5), dtype, coordinates, batch=2, key=order)
    assert max(errors[:2]) < tolerance and errors[2] < (1e-9 if dtype == "float64" else 1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 5e-6)])
def test_adam_on_both_blocks_matches_high_precision(dtype, tolerance):
    errors = follow("joint_adam", rules.Adam(0.5), dtype, None)
    assert max(errors[:2]) < tolerance and errors[2] < (1e-9 if dtype == "float64" else 1e-3)


def data(n=4, T=3, d=12, seed=0):
    return jaxsim.data.unit_sphere(jax.random.key(seed), n=n, T=T, d=d)


def test_ngd_saturates_and_both_directions_converge():
    run = jaxsim.simulate(
        data(), rules.PerBlock(rules.NGD(0.1), rules.NGD(0.1)), init.Gaussian(0.1), key=KEY, lanes=20, steps=20_000,
        train=train.Joint(np.zeros(12)),
    )  # fmt: skip
    assert run.finite.all() and set(run.verdict) <= {"global", "local"}
    late = run.steps >= 2000
    for error in (run.direction_error, run.more["decoder_direction_error"]):
        slope = np.polyfit(np.log(run.steps[late]), np.log(np.median(error, 0)[late]), 1)[0]
        assert -1.15 < slope < -0.85
    assert (run.more["decoder_margin_gap"][:, -1] < 1e-3).all()
    assert (run.more["decoder_margin_gap"][:, 1:] > -1e-12).all()


def test_the_loss_is_known_a_thousand_digits_down():
    run = jaxsim.simulate(
        data(), rules.NGD(3.0), init.Gaussian(0.1), key=KEY, lanes=4, steps=5000, train=train.Joint(), dtype="float32"
    )
    log10_loss = run.more["log10_loss"]
    assert run.finite.all() and (log10_loss[:, -1] < -1000).all() and (np.diff(log10_loss[:, -10:]) < 0).all()


def test_rotations_change_nothing():
    problem = data(d=5)
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(2))
    turned = jaxsim.Problem(problem.tokens @ U.T, problem.queries @ V.T, problem.labels, U @ problem.decoder)
    W0 = rng.standard_normal((5, 5))
    options = dict(key=KEY, lanes=1, steps=200, train=train.Joint())
    one = jaxsim.simulate(problem, rules.NGD(0.1), init.Given(W0), **options)
    two = jaxsim.simulate(turned, rules.NGD(0.1), init.Given(U @ W0 @ V.T), **options)
    np.testing.assert_allclose(one.final_logits, two.final_logits, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(U @ one.more["decoder"][0], two.more["decoder"][0], rtol=1e-9)


def test_masks_and_shallow_autodiff():
    base = data(d=5)
    mask = np.ones((4, 3), bool)
    mask[0, 2] = mask[3, 0] = False
    problem = jaxsim.Problem(base.tokens, base.queries, base.labels, base.decoder, mask)
    W, u = jnp.zeros((5, 5)), jnp.asarray(problem.decoder)

    def loss(W, u):
        a = jnp.where(problem.visible, jnp.einsum("itd,de,ie->it", problem.tokens, W, problem.queries), -jnp.inf)
        m = (jax.nn.softmax(a, 1) * (problem.labels[:, None] * (problem.tokens @ u))).sum(1)
        return jnp.logaddexp(0.0, -m).mean()

    for k in range(20):
        dW, du = jax.grad(loss, (0, 1))(W, u)
        W, u = W - 0.5 * dW, u - 0.5 * (k + 1.0) ** (-2 / 3) * du

    def decreasing(k):
        return 0.5 * (k.astype(float) + 1.0) ** (-2 / 3)

    both = rules.PerBlock(rules.GD(optax.constant_schedule(0.5)), rules.GD(decreasing))
    run = jaxsim.simulate(problem, both, init.Zero(), key=KEY, lanes=1, steps=20, train=train.Joint())
    np.testing.assert_allclose(run.W(0), W, atol=1e-12)
    np.testing.assert_allclose(run.more["decoder"][0], u, atol=1e-12)
    np.testing.assert_allclose(run.more["log10_loss"][0, -1], np.log10(loss(W, u)), rtol=1e-10)


def test_a_batch_of_all_is_full_descent_and_rules_of_blocks_choose_the_coordinates():
    options = dict(key=KEY, lanes=2, steps=100)
    both = rules.PerBlock(rules.Adam(0.1), rules.Polyak(max_step=1.0))
    assert both.coordinates == "full" and rules.PerBlock(rules.NGD(1), rules.Spectral(1)).coordinates == "primal"
    one, two = (
        jaxsim.simulate(data(), both, init.Gaussian(0.3), train=how, **options)
        for how in (train.Joint(), train.Joint(batch=4, key=KEY))
    )
    assert one.settings["coordinates"] == "full"
    np.testing.assert_allclose(one.final_logits, two.final_logits, rtol=1e-9, atol=1e-9)


def test_spectral_steps_of_a_decoder_are_normalised_ones():
    options = dict(key=KEY, lanes=2, steps=100, train=train.Joint(), coordinates="primal")
    one, two = (
        jaxsim.simulate(data(), rules.PerBlock(rules.NGD(0.1), rule), init.Gaussian(0.3), **options)
        for rule in (rules.Spectral(0.1), rules.NGD(0.1))
    )
    np.testing.assert_allclose(one.final_logits, two.final_logits, rtol=1e-9, atol=1e-9)


def test_the_decoder_limit_is_the_hard_margin_classifier():
    cp = pytest.importorskip("cvxpy")
    from jaxsim.margin import classifier

    problem = data()
    unit, norm = classifier(problem, problem.optimal)
    rows = problem.labels[:, None] * problem.tokens[np.arange(4), problem.optimal]
    u = cp.Variable(12)
    cp.Problem(cp.Minimize(cp.norm(u)), [rows @ u >= 1]).solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(unit * norm, u.value, atol=1e-5)
    flat = jaxsim.Problem(np.array([[[1.0], [2.0]], [[1.5], [3.0]]]), np.ones((2, 1)), [1, -1], [1.0])
    assert classifier(flat, [0, 0])[1] == np.inf


def test_results_survive_saving(tmp_path):
    run = jaxsim.simulate(data(), rules.NGD(0.1), init.Zero(), key=KEY, lanes=2, steps=10, train=train.Joint())
    run.save(tmp_path / "run.npz")
    again = jaxsim.Run.load(tmp_path / "run.npz")
    assert again.more.keys() == run.more.keys() and again.settings["train"] == "joint"
    np.testing.assert_array_equal(again.verdict, run.verdict)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(train=train.Joint(np.zeros(3))), r"decoder: expected shape \(d,\) = \(12,\); got \(3,\)"),
        (dict(train=train.Joint(), loss="linear"), "loss: joint training needs a loss whose infimum is 0"),
        (dict(rule=rules.PerBlock(rules.NGD(0.1))), "rule: PerBlock has 1 rules; expected one per block, 2"),
        (dict(train=train.Joint(batch=5, key=KEY)), "batch: expected at most n = 4 sequences; got 5"),
        (dict(train=train.Joint(batch=2)), "train.key: expected a JAX key such as .*; got None"),
        (dict(rule=rules.PerBlock(rules.Adam(0.1), rules.GD(0.1)), coordinates="dual"), "runs in full coordinates"),
        (dict(train="both"), "train: expected what to train, such as jaxsim.train.Joint()"),
    ],
)
def test_bad_input(options, message):
    arguments = dict(rule=rules.NGD(0.1), init=init.Zero(), key=KEY, lanes=1, steps=1, train=train.Joint()) | options
    with pytest.raises(ValueError, match=message):
        jaxsim.simulate(data(), **arguments)


def test_per_block_needs_rules():
    with pytest.raises(ValueError, match="rules: expected one rule per block; got none"):
        rules.PerBlock()
    with pytest.raises(ValueError, match="rules: expected rules such as .*; rule 1 is 0.1"):
        rules.PerBlock(rules.GD(0.1), 0.1)

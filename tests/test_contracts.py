"""What every member of every registry keeps, and what is refused, with the missing piece named."""

import inspect
import json
import pathlib
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_rules import Bowl

import jaxsim
from jaxsim import data, init, rules, train
from jaxsim._plugins import REGISTRIES
from jaxsim._registry import Registry
from jaxsim.driver.steps import advance, begin
from jaxsim.model import Block, Gradient
from jaxsim.rules.contract import check_class

MEMBERS = {name: rule(0.1) for name, rule in rules.ALL_RULES.items()} | {
    "per-block": rules.PerBlock(rules.NGD(0.1)),
    "decayed": rules.Decayed(rules.NGD(0.1), 0.01),
    "sam": rules.SAM(rules.NGD(0.1), 0.01),
    "optax": rules.Optax(rules.transformation("sgd", learning_rate=0.1)),
    "scheduled": rules.NGD(rules.schedule("exponential", init=0.1, steps=100, rate=0.5)),
}
STEPS = {"adagrad-norm": 1.0, "polyak": 1.0}


class MatrixBowl(Bowl):
    """The bowl for a parameter that is a matrix."""

    def enter(self, start):
        return ({"W": start.reshape(2, 2, -1)},)

    def gradient(self, params, step=None):
        W = params[0]["W"]
        h, scale = self.curvature.astype(W.dtype).reshape(2, 2, 1), jnp.asarray(self.log_scale, W.dtype)
        direction = h * W / jnp.exp(scale)
        norm, gap = jnp.sqrt((direction**2).sum((0, 1))), 0.5 * (h * W * W).sum((0, 1))
        lanes = jnp.broadcast_to(scale, norm.shape)
        return Gradient((Block({"W": direction}, lanes, norm),), gap, jnp.zeros_like(gap), jnp.zeros((), W.dtype))


@pytest.mark.parametrize("name", MEMBERS)
def test_every_rule_keeps_its_contract(name):
    rule = MEMBERS[name]
    rules.check_rule(rule)
    assert isinstance(rule.name, str) and inspect.getdoc(type(rule))
    assert rule.coordinates in (None, "primal", "full") and rule.predicts in ("power", "inverse-log")
    assert rule.predicts == ("inverse-log" if name in ("gd", "adagrad-norm") else "power")
    told = json.loads(json.dumps(rules.parameters(rule)))
    again = rules.build(told)
    assert rules.parameters(again) == told and repr(again) == repr(rule) and type(again) is type(rule)
    assert jax.tree.structure(again) == jax.tree.structure(rule)
    assert rules.label(again) == rules.label(rule) and rules.label(rule).startswith(type(rule).__name__)


@pytest.mark.parametrize("name", MEMBERS)
def test_every_rule_descends_a_bowl_of_matrices(name):
    rule = type(MEMBERS[name])(STEPS[name]) if name in STEPS else MEMBERS[name]
    rule = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), rule)
    bowl = MatrixBowl(jnp.array([1.0, 2.0, 4.0, 0.5]), 0.0)
    state = begin(bowl, rule, jnp.asarray(np.random.default_rng(0).standard_normal((4, 3))))
    first = bowl.gradient(state.params).gap
    step = jax.jit(lambda state, k: advance(bowl, rule, state, k)[0])
    for k in range(60):
        state = step(state, jnp.asarray(k))
    assert (bowl.gradient(state.params).gap < 0.5 * first).all()
    assert all(value.shape == (3,) for value in rule.report(state.memory).values())


OTHERS = [
    rules.Polyak(max_step=5), rules.Adam(0.1, eps=1e-8), rules.Spectral(0.1, method="newton-schulz"),
    rules.PerBlock(rules.NGD(0.1), rules.Mirror(0.5, p=3)), rules.Polyak(optimal_loss=0.25),
    rules.HeavyBall(rules.schedule("cosine", init=0.5, steps=10), beta=0.5),
    rules.SAM(rules.Decayed(rules.Adam(0.1), 0.2), rules.schedule("cosine", init=0.5, steps=10), normalise=False),
]  # fmt: skip


@pytest.mark.parametrize("rule", OTHERS, ids=rules.label)
def test_parameters_that_are_not_defaults_come_back(rule):
    assert repr(rules.build(rules.parameters(rule))) == repr(rule)


def test_what_cannot_be_told_is_not_built_again():
    told = rules.parameters(rules.Optax(optax.sgd(0.1)))
    assert told == {"name": "optax", "transformation": None, "normalise": False}
    with pytest.raises(ValueError, match="transformation: expected a table with name and numbers; got None"):
        rules.build(told)
    told = rules.parameters(rules.NGD(optax.constant_schedule(0.1)))
    assert told["eta"] == {"schedule": "constant_schedule.<locals>.<lambda>"}
    with pytest.raises(ValueError, match="schedule: expected one of constant, polynomial, exponential, cosine; got"):
        rules.build(told)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "nobody"}, "rule: expected one of gd, ngd, .*; got 'nobody'; .* jaxsim.register"),
        ({"name": "ngd"}, "rule: ngd: missing a required argument: 'eta'"),
        ({"name": "ngd", "eta": 0.1, "p": 2}, "rule: ngd: got an unexpected keyword argument 'p'"),
        ({"name": "ngd", "eta": -1}, "eta: expected a number above 0; got -1"),
        ({"name": "ngd", "eta": {"schedule": "cosine", "init": 1}}, "schedule: cosine lacks 'steps'"),
        ({"name": "ngd", "eta": {"schedule": "constant", "value": -1}}, "schedule: expected step sizes of at least 0"),
        ({"name": "optax", "transformation": {"name": "adam"}}, "transformation: adam lacks 'learning_rate'"),
        ({"name": "optax", "transformation": {"name": "x"}}, "transformation: expected one of sgd, adam"),
        ({"name": "per-block"}, "rules: expected one rule per block; got none"),
    ],
)
def test_plain_data_that_are_no_rule(content, message):
    with pytest.raises(ValueError, match=message):
        rules.build(content)


def test_named_schedules_are_those_of_optax():
    named = rules.schedule("cosine", init=0.5, steps=100, alpha=0.1)
    steps = jnp.arange(0, 130, 13)
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_array_equal(named(steps), optax.cosine_decay_schedule(0.5, 100, 0.1)(steps))
    assert named == rules.schedule("cosine", init=0.5, steps=100, alpha=0.1) and hash(named) == hash(named)


@pytest.mark.parametrize("name", init.LAWS)
def test_every_law_turns_with_the_coordinates(name):
    law = init.LAWS[name]()
    assert inspect.getdoc(law) and law.place.__doc__
    rng = np.random.default_rng(0)
    xi, turn = rng.standard_normal(6), np.linalg.qr(rng.standard_normal((6, 6)))[0]
    law = jax.tree.map(jnp.asarray, law)
    (one, rest), (two, same) = (law.place(jnp.asarray(x), jnp.asarray(2.0)) for x in (xi, turn @ xi))
    assert one.shape == (6,) and rest.shape == () and rest >= 0
    np.testing.assert_allclose(turn @ one, two, atol=1e-14)
    np.testing.assert_allclose(rest, same, rtol=1e-14)


@pytest.mark.parametrize("name", data.FAMILIES)
def test_every_family_gives_equal_problems_for_equal_arguments(name):
    family = data.FAMILIES[name]
    given = {"key": jax.random.key(3)} if "key" in inspect.signature(family).parameters else {}
    one, two = family(**given), family(**given)
    assert isinstance(one, jaxsim.Problem) and one.fingerprint() == two.fingerprint() and inspect.getdoc(family)


@pytest.mark.parametrize("name", train.KINDS)
def test_every_kind_of_training_runs(name, problem, key):
    kind = train.KINDS[name]
    made = kind(2) if name == "key-query" else kind()
    assert inspect.getdoc(kind) and made.coordinates in (None, "primal")
    run = jaxsim.simulate(
        problem, rules.NGD(0.1), init.Gaussian(1.0), key=key, lanes=2, steps=5, train=made, limits="saturated"
    )
    assert run.norm.shape == (2, len(run.steps))


class Nothing:
    name = "nothing"


class OnlyUpdate(Nothing):
    def update(self, gradient, state, step):
        """Never called."""


class Nameless(rules.Stateless):
    def update(self, gradient, state, step):
        """Never called."""


class Plain(Nameless):
    name = "plain"


@rules.pytree
class Elsewhere(Plain):
    name = "elsewhere"
    coordinates = "polar"


@rules.pytree
class Text(Plain):
    word: str = "text"


class OnlyModel:
    def model(self, problem, frame, loss, dtype):
        """Never called."""


class PlainLaw:
    def place(self, xi, rest):
        """Never called."""


def sizeless(n) -> jaxsim.Problem:
    """Never called."""
    raise AssertionError


def silent(n=3):
    """Never called."""


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (OnlyUpdate, "rule: OnlyUpdate has no method init; a rule needs init, update and report; see CONTRIBUTING.md"),
        (Nameless, "rule: Nameless has no name; a rule needs one"),
        (Plain, "rule: Plain is no pytree, .*@jaxsim.rules.pytree"),
        (Elsewhere, "rule: Elsewhere.coordinates: expected None or 'primal' or 'full'; got 'polar'"),
        (OnlyModel, "train: OnlyModel has no method check; a trained thing needs check, lift, margins, model"),
        (PlainLaw, "law: PlainLaw is no pytree; put @jaxsim.rules.pytree"),
        (sizeless, "data: sizeless has no default for n"),
        (silent, "register: silent does not say what it returns; .* -> jaxsim.Problem"),
        (Nothing, "register: expected the class of a rule .with update.*; got"),
        (3, "register: expected the class of a rule"),
    ],
)
def test_what_breaks_its_contract_is_refused_by_name(thing, message):
    with pytest.raises(ValueError, match=message):
        jaxsim.register(thing)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (OnlyUpdate(), "rule: OnlyUpdate has no method init; a rule needs init, update and report"),
        (Plain(), "rule: Plain is no pytree, so JAX cannot compile it; put @jaxsim.rules.pytree before its class"),
        (Text(), "rule: Text has a parameter that is no number, 'text'; declare what is not by jaxsim.rules.static"),
        (rules.NGD, "rule: expected a rule such as jaxsim.rules.NGD"),
        (0.1, "rule: expected a rule such as jaxsim.rules.NGD"),
    ],
)
def test_simulate_refuses_what_is_no_rule_by_name(rule, message, problem, key):
    with pytest.raises(ValueError, match=message):
        jaxsim.simulate(problem, rule, init.Zero(), key=key, lanes=1, steps=1)


@rules.pytree
class Bare:
    """A rule that says no more than it did before there was a registry."""

    eta: float

    name = "bare"

    def init(self, params):
        """Nothing."""
        return ()

    def update(self, gradient, state, step):
        """As gradient descent does."""
        return tuple(rules.times(-self.eta * jnp.exp(b.log_scale), b.direction) for b in gradient.blocks), state

    def report(self, state):
        """Nothing."""
        return {}


def test_a_rule_that_is_silent_about_coordinates_runs_in_any(problem, key):
    options = dict(key=key, lanes=2, steps=20)
    one, two = (jaxsim.simulate(problem, r, init.Gaussian(1.0), **options) for r in (Bare(0.5), rules.GD(0.5)))
    np.testing.assert_array_equal(one.final_logits, two.final_logits)
    assert (Bare.coordinates, Bare.predicts) == (None, "power")
    assert rules.parameters(Bare(0.5)) == {"name": "bare", "eta": 0.5} and rules.label(Bare(0.5)) == "Bare 0.5"


@pytest.fixture
def restored():
    """Registries as they were, after the test."""
    before = {kind: (dict(r._members), dict(r._sources)) for kind, r in REGISTRIES.items()}
    yield
    for kind, (members, sources) in before.items():
        REGISTRIES[kind]._members, REGISTRIES[kind]._sources = members, sources


def test_registering_twice_and_under_taken_names(restored):
    assert jaxsim.register(Bare) is Bare and jaxsim.register(Bare) is Bare
    assert rules.RULES["bare"] is Bare and "bare" not in rules.MATRIX_RULES and list(rules.RULES)[-1] == "bare"
    assert rules.ALL_RULES.source("bare")["module"] == __name__ and len(rules.ALL_RULES.source("bare")["sha256"]) == 64
    assert rules.ALL_RULES.source("ngd") is None and rules.ALL_RULES.outside() == ["bare"]
    rules.ALL_RULES.forget("bare")
    assert "bare" not in rules.RULES and jaxsim.register(Bare) is Bare
    with pytest.raises(ValueError, match="rule: expected one of gd, ngd, .*; got 'nobody'"):
        rules.ALL_RULES.forget("nobody")
    for name in ("ngd", "optax", "per-block"):
        with pytest.raises(ValueError, match=f"rule: the name '{name}' is taken"):
            jaxsim.register(Bare, name=name)
    with pytest.raises(ValueError, match="rule: expected a name of letters"):
        jaxsim.register(Bare, name="a b")
    with pytest.raises(ValueError, match="kind: expected rule, law, data, train; got 'model'"):
        jaxsim.register(Bare, kind="model")

    @jaxsim.register(name="mine", kind="data")
    def function(n: int = 3) -> "jaxsim.Problem":
        raise AssertionError

    assert data.FAMILIES["mine"] is function


def distribution(folder: pathlib.Path, name: str, code: str, entries: str) -> None:
    """An installed package, as far as importlib.metadata looks."""
    (folder / f"{name}.py").write_text(textwrap.dedent(code))
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(entries))


def test_packages_announce_members_and_broken_ones_are_left_out(tmp_path, monkeypatch):
    code = """
        import jaxsim
        class Foreign(jaxsim.rules.NGD):
            name = "foreign"
        Foreign = jaxsim.rules.pytree(Foreign)
        class Broken:
            name = "broken"
    """
    entries = "[jaxsim.rules]\nforeign = faraway:Foreign\nbroken = faraway:Broken\nabsent = faraway:Absent\n"
    distribution(tmp_path, "faraway", code, entries)
    monkeypatch.syspath_prepend(tmp_path)
    fresh = Registry("rule", "jaxsim.rules", check_class)
    with pytest.warns(UserWarning, match="left out") as told:
        assert list(fresh) == ["foreign"]
    assert len(told) == 2 and set(fresh.left_out) == {"broken", "absent"}
    assert fresh.source("foreign") == {"distribution": "faraway", "version": "1.2"}
    assert "faraway 1.2: rule: Broken has no method init" in fresh.how_to_register("broken")

"""Machine code against XLA: trajectories, elementary functions, when it is chosen, and what happens without it."""

import ctypes
import os
import pathlib
import subprocess

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from commands import invoke
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxsim
from jaxsim.coordinates import frame_of
from jaxsim.driver import XLA
from jaxsim.model import LOSSES
from jaxsim.native import NotBuilt, building, engine, has_compiler

pytestmark = pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
KEY, LAW = jax.random.key(1), jaxsim.init.Gaussian(0.5)
RULES = {
    "gd": jaxsim.rules.GD(1.0),
    "ngd": jaxsim.rules.NGD(0.1),
    "polyak": jaxsim.rules.Polyak(max_step=5.0),
    "adagrad-norm": jaxsim.rules.AdaGradNorm(0.5),
    "heavy-ball": jaxsim.rules.HeavyBall(0.5),
    "nesterov": jaxsim.rules.Nesterov(0.5, beta=0.95),
    "normalised-momentum": jaxsim.rules.NormalisedMomentum(0.1),
}
EPS = {"float32": np.finfo(np.float32).eps, "float64": np.finfo(np.float64).eps}


def problem_of(n, T, d, seed=0, hidden=False, ties=False):
    """A problem, with a token hidden in each sequence but the first, or two tokens of equal scores in each."""
    made = jaxsim.data.unit_sphere(jax.random.key(seed), n=n, T=T, d=d)
    tokens, mask = np.array(made.tokens), None
    if hidden:
        mask = np.ones((n, T), bool)
        mask[np.arange(1, n), np.arange(1, n) % T] = False
    if ties and not hidden and T > 2:
        unit = made.decoder / np.linalg.norm(made.decoder)
        worst, next_worst = np.argsort(made.scores, axis=1)[:, :2].T
        for i in range(n):
            tokens[i, worst[i]] += unit * (unit @ (tokens[i, next_worst[i]] - tokens[i, worst[i]]))
    return jaxsim.Problem(tokens, made.queries, made.labels, made.decoder, mask)


def both(problem, rule, dtype, steps=300, lanes=70, **more):
    return [
        jaxsim.simulate(problem, rule, LAW, key=KEY, lanes=lanes, steps=steps, dtype=dtype, engine=name,
                        keep=("logits", "coeffs"), **{"stepping": "every"} | more)
        for name in ("xla", "native")
    ]  # fmt: skip


def agree(xla, native, dtype, rounding):
    assert (xla.settings["engine"], native.settings["engine"]) == ("xla", "native")
    for name in ("logits", "coeffs"):
        a, b = getattr(xla, name), getattr(native, name)
        scale = np.abs(a).max((2, 3), keepdims=True)
        off = np.abs(a - b) - rounding * EPS[dtype] * scale
        assert (off <= 0).all(), (name, np.unravel_index(off.argmax(), off.shape))
    for name in xla.report:
        np.testing.assert_allclose(native.report[name], xla.report[name], rtol=rounding * EPS[dtype], atol=1e-30)


def every_rule():
    """The quick half leaves out what most of the others show too."""
    for dtype in EPS:
        for name in RULES:
            often = "momentum" in name or name in ("nesterov", "heavy-ball") and dtype == "float32"
            yield pytest.param(name, dtype, marks=[pytest.mark.slow] if often else [])


@pytest.mark.parametrize(("name", "dtype"), list(every_rule()))
def test_trajectories_are_those_of_xla_up_to_rounding(name, dtype):
    # Polyak forgets nothing of a rounding error and magnifies it: it is followed for as long as digits last.
    steps, rounding = (4, 100) if name == "polyak" else (300, 100)
    agree(*both(problem_of(3, 4, 6), RULES[name], dtype, steps), dtype, rounding)


def power_law(step):
    """A step size that is another at every step."""
    return 2.0 / jnp.sqrt(1.0 + step.astype(jnp.float32))


@pytest.mark.parametrize(
    ("name", "dtype"), [("ngd", "float64"), ("adagrad-norm", "float32"), ("heavy-ball", "float64")]
)
def test_schedules_are_those_of_xla_up_to_rounding(name, dtype):
    """At 300 steps the last burst of a table is not full, and records lie within bursts."""
    agree(*both(problem_of(3, 4, 6), type(RULES[name])(power_law), dtype), dtype, 100)


def test_a_schedule_beside_numbers_of_each_lane():
    rule, how = jaxsim.rules.NormalisedMomentum(power_law, beta=[0.5, 0.9]), dict(lanes=9, steps=100, key=KEY)
    found = [jaxsim.sweep(problem_of(3, 4, 6), rule, LAW, engine=name, **how) for name in ("xla", "native")]
    for xla, native in zip(found[0].runs, found[1].runs, strict=True):
        assert native.settings["engine"] == "native"
        np.testing.assert_allclose(native.final_logits, xla.final_logits, rtol=1e-10, atol=1e-10)


def test_two_schedules_at_once():
    rule = jaxsim.rules.Polyak(optax.linear_schedule(1.0, 0.5, 100), max_step=power_law)
    agree(*both(problem_of(3, 4, 6), rule, "float64", steps=8), "float64", 100)


@pytest.mark.parametrize("loss", ["exponential", pytest.param("linear", marks=pytest.mark.slow)])
def test_every_loss_with_a_closed_form(loss):
    for name, steps, rounding in (("ngd", 200, 100), ("polyak", 4, 100)):
        agree(*both(problem_of(3, 4, 6), RULES[name], "float64", steps, loss=loss), "float64", rounding)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", ["hidden", "ties"])
def test_hidden_tokens_and_equal_scores(what, dtype):
    agree(*both(problem_of(3, 4, 6, **{what: True}), RULES["ngd"], dtype), dtype, 100)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(1, 9), st.integers(2, 9), st.integers(0, 10**6), st.sampled_from(["float32", "float64"]),
    st.sampled_from([name for name in RULES if name != "polyak"]),
    st.sampled_from(["logistic", "exponential", "linear"]),
    st.booleans(), st.booleans(), st.integers(1, 80), st.sampled_from([1e-6, 1.0, 1e6]),
)  # fmt: skip
def test_any_shape(n, T, seed, dtype, name, loss, hidden, ties, lanes, size):
    problem = problem_of(n, T, n * T + 3, seed, hidden and T > 1, ties)
    problem = jaxsim.Problem(
        problem.tokens * size, problem.queries, problem.labels, problem.decoder / size, problem.mask
    )
    by_length = name in ("ngd", "normalised-momentum")  # steps of W, which is of the size of 1/tokens
    rule = type(RULES[name])(RULES[name].eta.value / (size if by_length else size**2))
    law = jaxsim.init.Gaussian(0.5 / size)
    runs = [
        jaxsim.simulate(problem, rule, law, key=KEY, lanes=lanes, steps=40, dtype=dtype, engine=e, loss=loss,
                        keep=("logits", "coeffs"))
        for e in ("xla", "native")
    ]  # fmt: skip
    if runs[1].settings["engine"] == "native":  # dependent tokens have other coordinates
        agree(*runs, dtype, 2000)


def test_nearly_equal_logits_and_depths_that_no_number_holds():
    problem = problem_of(3, 4, 6)
    starts = np.random.default_rng(0).normal(size=(40, 6, 6)) * np.logspace(-12, 4, 40)[:, None, None]
    starts[:5] = 0.0
    for dtype in EPS:
        xla, native = (
            jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), jaxsim.init.Given(starts), key=KEY, lanes=40, steps=50,
                            dtype=dtype, engine=name, keep=("logits",))
            for name in ("xla", "native")
        )  # fmt: skip
        scale = np.abs(xla.logits).max((2, 3), keepdims=True)
        assert native.settings["engine"] == "native" and native.log10_attention_gap.min() < -300
        assert np.abs(xla.logits - native.logits).max() <= 1000 * EPS[dtype] * scale.max()
        np.testing.assert_allclose(
            native.log10_grad_norm, xla.log10_grad_norm, rtol=1e-5 if dtype == "float32" else 1e-9
        )


@pytest.mark.promise
def test_a_lane_comes_out_the_same_whatever_stands_beside_it():
    def made(**how):
        return jaxsim.simulate(
            problem_of(3, 4, 6), RULES["ngd"], LAW, key=KEY, steps=200, dtype="float32", engine="native", **how
        )

    together = made(lanes=160)
    for first, lanes in ((0, 128), (31, 129)):  # of as many lanes a block, in other places of it
        part = made(lanes=lanes, first=first)
        np.testing.assert_array_equal(part.final_logits, together.final_logits[first : first + lanes])
        np.testing.assert_array_equal(part.direction_error, together.direction_error[first : first + lanes])


def test_one_bad_lane_touches_no_other():
    problem = problem_of(3, 4, 6)
    starts = np.random.default_rng(0).normal(size=(20, 6, 6))
    good = starts.copy()
    starts[3] = 1e300
    runs = [
        jaxsim.simulate(problem, jaxsim.rules.GD(1e300), jaxsim.init.Given(each), key=KEY, lanes=20, steps=20,
                        dtype="float64", engine="native", loss="exponential")
        for each in (starts, good)
    ]  # fmt: skip
    others = np.arange(20) != 3
    np.testing.assert_array_equal(runs[0].final_logits[others], runs[1].final_logits[others])
    assert list(runs[0].verdict[others]) == list(runs[1].verdict[others])


def test_many_problems_side_by_side():
    problems = [problem_of(3, 4, 6, seed) for seed in range(9)]
    problems[4] = problem_of(3, 4, 6, 4, hidden=True)
    xla, native = (
        jaxsim.simulate_many(problems, RULES["ngd"], LAW, key=KEY, lanes=5, steps=200, dtype="float64", engine=name)
        for name in ("xla", "native")
    )
    for a, b in zip(xla, native, strict=True):
        assert b.settings["engine"] == "native"
        seen = np.isfinite(a.final_logits)
        np.testing.assert_array_equal(np.isfinite(b.final_logits), seen)
        np.testing.assert_allclose(b.final_logits[seen], a.final_logits[seen], rtol=1e-11, atol=1e-11)


@pytest.mark.promise
@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("lanes", [1, 5, 11])
def test_registers_of_several_problems_are_those_of_one(lanes, dtype):
    """Lanes that fill up a register with those of other problems, one by one or some together."""
    problems = [problem_of(3, 4, 6, seed) for seed in range(6)]
    starts = [jaxsim.init.Given(np.random.default_rng(p).normal(size=(lanes, 6, 6))) for p in range(6)]
    how = dict(key=KEY, lanes=lanes, steps=40, dtype=dtype, engine="native")
    together = jaxsim.simulate_many(problems, RULES["ngd"], starts, **how)
    for problem, start, run in zip(problems, starts, together, strict=True):
        (alone,) = jaxsim.simulate_many([problem], RULES["ngd"], [start], **how)
        np.testing.assert_array_equal(run.final_logits, alone.final_logits)
        np.testing.assert_array_equal(run.norm, alone.norm)


def test_masks_and_equal_scores_of_some_problems_do_not_trouble_the_others():
    """Blocks of which some had hidden tokens, and others none, could not be put side by side."""
    problems = [problem_of(3, 4, 6, seed, hidden=seed == 1) for seed in range(2)]
    runs = jaxsim.simulate_many(problems, RULES["ngd"], LAW, key=KEY, lanes=256, steps=20, dtype="float64")
    alone = jaxsim.simulate_many(problems[:1], RULES["ngd"], LAW, key=KEY, lanes=256, steps=20, dtype="float64")
    np.testing.assert_allclose(runs[0].final_logits, alone[0].final_logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "dtype", "steps"),
    [
        ("gd", "float64", 10**9),
        pytest.param("adagrad-norm", "float64", 10**9, marks=pytest.mark.slow),
        pytest.param("ngd", "float64", 10**7, marks=pytest.mark.slow),
        pytest.param("gd", "float32", 10**9, marks=pytest.mark.slow),
        pytest.param("adagrad-norm", "float32", 10**9, marks=pytest.mark.slow),
    ],
)
def test_leaps_are_those_of_xla_up_to_rounding(name, dtype, steps):
    xla, native = both(problem_of(3, 4, 6), RULES[name], dtype, steps, lanes=30, stepping="auto")
    assert (native.settings["engine"], (native.report["leaps"] > 0).all()) == ("native", True)
    assert list(native.verdict) == list(xla.verdict)
    scale = np.abs(xla.logits).max((1, 2, 3))
    off = np.abs(native.logits - xla.logits).max((1, 2, 3)) / scale
    if dtype == "float64":
        assert off.max() <= 1e-10
        np.testing.assert_allclose(native.report["leaps"], xla.report["leaps"], rtol=0.05, atol=2)
        np.testing.assert_allclose(native.report["leap_error"], xla.report["leap_error"], rtol=0.2, atol=1e-12)
    else:  # and the single steps before, as far as they are in the tests above
        assert (off <= xla.report["leap_error"] + native.report["leap_error"] + 100 * EPS[dtype]).all()


@pytest.mark.slow
def test_leaps_of_hidden_tokens_and_equal_scores_and_many_problems():
    rule, steps = RULES["gd"], 10**6
    for what in ({"hidden": True}, {"ties": True}):
        xla, native = both(problem_of(3, 4, 6, **what), rule, "float64", steps, lanes=10, stepping="auto")
        assert (native.report["leaps"] > 0).any()
        np.testing.assert_allclose(native.final_logits, xla.final_logits, rtol=1e-9)
    problems = [problem_of(3, 4, 6, seed) for seed in range(3)]
    xla, native = (
        jaxsim.simulate_many(problems, rule, LAW, key=KEY, lanes=5, steps=steps, dtype="float64", engine=name)
        for name in ("xla", "native")
    )
    for a, b in zip(xla, native, strict=True):
        np.testing.assert_allclose(b.final_logits, a.final_logits, rtol=1e-9)


def test_a_lane_leaps_the_same_whatever_stands_beside_it():
    def made(**how):
        return jaxsim.simulate(problem_of(3, 4, 6), RULES["gd"], LAW, key=KEY, steps=10**6, engine="native", **how)

    together = made(lanes=160)
    for first, lanes in ((0, 128), (31, 129)):
        part = made(lanes=lanes, first=first)
        np.testing.assert_array_equal(part.final_logits, together.final_logits[first : first + lanes])
        np.testing.assert_array_equal(part.report["leaps"], together.report["leaps"][first : first + lanes])


def test_auto_goes_by_the_size_of_the_whole():
    """Small runs do not pay for building; parts of a run are made by what the whole is made by."""
    problem = problem_of(3, 4, 6)
    small = jaxsim.simulate(problem, RULES["ngd"], LAW, key=KEY, lanes=8, steps=50)
    assert small.settings["engine"] == "xla"
    worth = 2 * 10**10 / 12**2
    assert made_by(RULES["ngd"], asked="auto", lane_steps=0.99 * worth) is XLA
    assert made_by(RULES["ngd"], asked="auto", lane_steps=1.01 * worth).name == "native"


def made_by(rule, problem=None, asked="native", kind="dual", loss=LOSSES["logistic"], lane_steps=1.0):
    """What makes the steps."""
    problem = problem_of(3, 4, 6) if problem is None else problem
    return engine(asked, problem, frame_of(problem, kind, np.float64), loss, rule, np.float64, lane_steps)


class Twice(jaxsim.rules.NGD):
    """A rule of one's own, made from one that has machine code."""

    name = "twice"

    def update(self, gradient, state, step):
        increments, state = super().update(gradient, state, step)
        return tuple(jax.tree.map(lambda x: 2.0 * x, block) for block in increments), state


def test_what_machine_code_does_not_know_is_left_to_xla():
    assert made_by(RULES["ngd"]).name == "native"
    others = [
        jaxsim.rules.Adam(0.1), jaxsim.rules.Spectral(0.1), jaxsim.rules.Polyak(optimal_loss=0.0),
        jaxsim.rules.pytree(Twice)(0.1), jaxsim.rules.PerBlock(jaxsim.rules.NGD(0.1)),
    ]  # fmt: skip
    assert all(made_by(rule) is XLA for rule in others)
    arctangent = jaxsim.losses.Smooth(lambda m: -jnp.arctan(m), lambda m: -1 / (1 + m**2), "arctangent")
    for other in ({"kind": "primal"}, {"loss": arctangent}, {"problem": problem_of(129, 2, 3)}):
        assert made_by(RULES["ngd"], **other) is XLA
    joint = jaxsim.simulate(
        problem_of(3, 4, 6), RULES["ngd"], LAW, key=KEY, lanes=2, steps=3, engine="native", train=jaxsim.train.Joint()
    )
    assert joint.settings["engine"] == "xla"


def test_an_engine_that_is_none():
    with pytest.raises(ValueError, match="engine: expected one of auto, xla, native; got 'cuda'"):
        jaxsim.simulate(problem_of(2, 3, 4), RULES["ngd"], LAW, key=KEY, lanes=2, steps=3, engine="cuda")


@pytest.fixture
def nothing_built(monkeypatch, tmp_path):
    """As on a machine where nothing has been built yet."""
    from jaxsim.native import machine_code as room

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for cached in (building.compiler, building._circumstances, room._target, room._say):
        cached.cache_clear()
    yield tmp_path
    for cached in (building.compiler, building._circumstances, room._target, room._say):
        cached.cache_clear()


def test_without_a_compiler_xla_runs_and_says_so(nothing_built, monkeypatch):
    from jaxsim.native import machine_code as room

    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(room, "WORTH", 0)
    problem = problem_of(2, 3, 4)
    with pytest.warns(RuntimeWarning, match="XLA runs.* there is no C\\+\\+ compiler; looked for no-such-compiler"):
        run = jaxsim.simulate(problem, RULES["ngd"], LAW, key=KEY, lanes=2, steps=3)
    assert run.settings["engine"] == "xla"
    with pytest.raises(ValueError, match="engine: expected 'auto' or 'xla', because there is no C"):
        jaxsim.simulate(problem, RULES["ngd"], LAW, key=KEY, lanes=2, steps=3, engine="native")


def test_a_compiler_that_fails(nothing_built, monkeypatch, tmp_path):
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'fatal error: nothing works' >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(ValueError, match="cc failed: fatal error: nothing works"):
        jaxsim.simulate(problem_of(2, 3, 4), RULES["ngd"], LAW, key=KEY, lanes=2, steps=3, engine="native")
    assert list((nothing_built / "jaxsim" / "native").iterdir()) == []


def test_machine_code_lies_where_nobody_else_writes(nothing_built):
    run = jaxsim.simulate(problem_of(2, 3, 4), RULES["ngd"], LAW, key=KEY, lanes=2, steps=3, engine="native")
    assert run.settings["engine"] == "native"
    place = nothing_built / "jaxsim" / "native"
    assert place.stat().st_mode & 0o777 == 0o700 and [p.suffix for p in place.iterdir()] == [".so"]
    place.chmod(0o777)
    with pytest.raises(NotBuilt, match="others may write there"):
        building.library("steps.cpp", {"N": 2})


def test_a_run_of_the_command_line_is_replayed_by_the_engine_that_made_it(tmp_path):
    asked = "run --data unit-sphere --n 3 -T 4 -d 6 --rule ngd=0.1 --lanes 20 --steps 300 --engine native --out run"
    done = invoke(*asked.split(), cwd=tmp_path)
    assert done.code == 0, done.err
    summary = (tmp_path / "run" / "summary.json").read_text(encoding="utf-8")
    assert '"engine": "native"' in summary
    again = invoke("replay", "run", "--lane", "7", "--out", "lane", cwd=tmp_path)
    assert again.code == 0, again.err


STUDY = """
steps = 50
shard = 10
engine = "native"
[stop]
lanes = 20
[[problem]]
family = "unit-sphere"
n = 3
T = 4
d = 6
[[init]]
law = "gaussian"
scale = 0.5
[[rule]]
name = "ngd"
eta = 0.1
[[rule]]
name = "adam"
eta = 0.1
"""


def test_a_study_by_machine_code(tmp_path):
    table = {
        "steps": 50, "dtype": "float64", "shard": 10, "stop": {"lanes": 20},
        "problem": [{"family": "unit-sphere", "n": 3, "T": 4, "d": 6}],
        "init": [{"law": "gaussian", "scale": 0.5}],
        "rule": [{"name": "ngd", "eta": 0.1}, {"name": "adam", "eta": 0.1}],
    }  # fmt: skip
    plain, native = jaxsim.study.build(**table), jaxsim.study.build(**table, engine="native")
    assert plain.hash != native.hash and "engine" not in plain.model_dump()
    (tmp_path / "native.toml").write_text(STUDY, encoding="utf-8")
    for _ in range(2):  # the second time there is nothing to do
        said = invoke("study", "run", "native.toml", "--out", "made", cwd=tmp_path)
        assert said.code == 0, said.err
    assert jaxsim.open_study(tmp_path / "made").study.engine == "native"


PROBE = """
#include "vector.h"
#define MAKE(name)                                                          \\
  extern "C" void probe_##name(const real* x, real* y, int64_t count) {     \\
    for (int64_t k = 0; k < count; k += WIDTH) {                            \\
      lanes v;                                                              \\
      for (int l = 0; l < WIDTH; ++l) v[l] = x[k + l < count ? k + l : k];  \\
      v = name(v);                                                          \\
      for (int l = 0; l < WIDTH && k + l < count; ++l) y[k + l] = v[l];     \\
    }                                                                       \\
  }
MAKE(exponential) MAKE(logarithm) MAKE(logarithm_past_one) MAKE(growth) MAKE(root) MAKE(nearest)
"""
EXACT = {
    "exponential": mpmath.exp,
    "logarithm": mpmath.log,
    "logarithm_past_one": mpmath.log1p,
    "growth": lambda x: mpmath.expm1(x) / x if x else mpmath.mpf(1),
    "root": mpmath.sqrt,
}


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """The functions of vector.h, for each dtype and each size of register that this machine has."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.cpp").write_text(PROBE, encoding="utf-8")
    flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8") if os.path.exists("/proc/cpuinfo") else ""
    kinds = [["-march=native"]] + ([["-mavx2", "-mfma"]] if "avx2" in flags else []) + [[]]
    made = {}
    for k, kind in enumerate(kinds):
        for dtype in EPS:
            out = folder / f"{k}-{dtype}.so"
            bits = f"-DBITS={8 * np.dtype(dtype).itemsize}"
            common = [flag for flag in building.FLAGS if flag not in ("-march=native", "-fvisibility=hidden")]
            source = os.path.dirname(building.__file__)
            subprocess.run(
                [*building.compiler(), *common, *kind, bits, f"-I{source}", str(folder / "probe.cpp"), "-o", str(out)],
                check=True,
            )
            made[k, dtype] = ctypes.CDLL(str(out))
    return made


def through(library, name, x):
    y = np.empty_like(x)
    getattr(library, f"probe_{name}")(
        x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(len(x))
    )
    return y


def test_elementary_functions_to_the_last_digits(probe):
    u = (np.arange(1, 1500) * 0.6180339887498949) % 1
    for (_, dtype), library in probe.items():
        info = np.finfo(dtype)
        reach = float(np.log(info.max)) * 0.98
        points = {
            "exponential": np.concatenate([(2 * u - 1) * reach, (2 * u - 1) ** 5, [0.0]]),
            "logarithm": np.concatenate([np.exp((2 * u - 1) * reach), 1 + (u - 0.5) ** 5, [1.0]]),
            "logarithm_past_one": np.concatenate([np.expm1((2 * u - 1) ** 3 * 10), (2 * u - 1) * 1e-9, [0.0]]),
            "growth": np.concatenate([u, u**8, [0.0]]),
            "root": np.exp((2 * u - 1) * reach),
        }
        for name, exact in EXACT.items():
            x = points[name].astype(dtype)
            found = through(library, name, x).astype(float)
            wanted = np.array([float(exact(mpmath.mpf(float(v)))) for v in x])
            off = np.abs(found - wanted) / np.maximum(np.abs(wanted), float(info.smallest_normal)) / float(info.eps)
            assert off.max() <= 2, (name, dtype, off.max(), x[off.argmax()])


def test_elementary_functions_at_their_ends(probe):
    inf, nan = np.inf, np.nan
    for (_, dtype), library in probe.items():
        at = lambda name, *x: through(library, name, np.array(x, dtype)).tolist()  # noqa: E731, B023
        np.testing.assert_equal(at("exponential", -inf, -1e30, 1e30, inf, nan), [0.0, 0.0, inf, inf, nan])
        np.testing.assert_equal(at("logarithm", 0.0, inf, -1.0, nan), [-inf, inf, nan, nan])
        np.testing.assert_equal(at("logarithm_past_one", 0.0, -1.0, inf, nan), [0.0, -inf, inf, nan])
        np.testing.assert_equal(at("nearest", 0.5, 1.5, -2.5, 1e9, nan), [0.0, 2.0, -2.0, 1e9, nan])


def test_one_engine_for_many_problems_and_none_built_for_each(nothing_built):
    problems = [problem_of(2, 4, 5), problem_of(2, 4, 5, 1, hidden=True)]
    runs = jaxsim.simulate_many(problems, RULES["ngd"], LAW, key=KEY, lanes=3, steps=5, engine="native")
    assert [run.settings["engine"] for run in runs] == ["native", "native"]
    assert len(list((nothing_built / "jaxsim" / "native").iterdir())) <= 2  # of the first problem, and of all together

"""Lane-steps per second of whole calls: draws, steps, records, att-SVMs, verdicts; answers checked first."""

import resource
import time

import jax
import numpy as np

import jaxsim
from benchmarks.clock import median_seconds
from jaxsim.native import has_compiler

RULES = {
    "ngd": jaxsim.rules.NGD(0.1), "gd": jaxsim.rules.GD(1.0), "polyak": jaxsim.rules.Polyak(),
    "heavy-ball": jaxsim.rules.HeavyBall(0.1), "nesterov": jaxsim.rules.Nesterov(0.1),
    "normalised-momentum": jaxsim.rules.NormalisedMomentum(0.1), "adagrad-norm": jaxsim.rules.AdaGradNorm(0.1),
}  # fmt: skip


def problem(n=6, T=8, d=10, key=1):
    """One problem of the published experiment's family: n=6, T=8, d=10 unless said."""
    return jaxsim.data.unit_sphere(jax.random.key(key), n=n, T=T, d=d)


def check(dtype):
    """Lanes of the timed configurations must stay on the float64 trajectory, deep into saturation."""
    law = jaxsim.init.Given(np.random.default_rng(0).standard_normal((10, 10)))
    options: dict = dict(key=jax.random.key(0), lanes=1, steps=2000)
    for rule in (RULES["ngd"], RULES["gd"], jaxsim.rules.Polyak(max_step=1.0)):
        one, two = (jaxsim.simulate(problem(), rule, law, dtype=kind, **options) for kind in (dtype, "float64"))
        fastest = "native" if has_compiler() else "xla"
        native = jaxsim.simulate(problem(), rule, law, dtype=dtype, engine=fastest, **options)
        (many,) = jaxsim.simulate_many([problem()], rule, law, dtype=dtype, **options)
        for run in (one, native, many):
            difference = np.abs(run.final_logits - two.final_logits).max() / np.abs(two.final_logits).max()
            assert difference < 2e-5, f"wrong answer, {rule!r}: {difference:.1e}"


def records(steps):
    """About 20 log-spaced steps."""
    return np.unique(np.geomspace(1, steps, 20).astype(int)).tolist()


MODELS = {
    "minibatches of 3": jaxsim.train.Weights(3, jax.random.key(3)),
    "W and u": jaxsim.train.Joint(),
    "W and u, minibatches of 3": jaxsim.train.Joint(batch=3, key=jax.random.key(3)),
    **{f"K and Q, width {m}": jaxsim.train.KeyQuery(m, nuclear=False) for m in (1, 2, 4, 10)},
}


def rate(rule, dtype, lanes, steps, repeats=5, which=None, limits="all", train=None, engine="auto"):
    """Lane-steps per second of `simulate` on one problem."""
    data = which if which is not None else problem()

    def go():
        jaxsim.simulate(
            data, RULES[rule], jaxsim.init.Gaussian(0.5), key=jax.random.key(0), lanes=lanes, steps=steps,
            record=records(steps), dtype=dtype, limits=limits, engine=engine,  # type: ignore[arg-type]
            train=jaxsim.train.Weights() if train is None else train,
        )  # fmt: skip

    return lanes * steps / median_seconds(go, repeats)


def many(dtype, count=1000, lanes=10, steps=2000, engine="auto"):
    """Lane-steps per second of `simulate_many`."""
    batch = [problem(key=k) for k in range(count)]

    def go():
        jaxsim.simulate_many(
            batch, RULES["ngd"], jaxsim.init.Gaussian(0.5), key=jax.random.key(0), lanes=lanes, steps=steps,
            record=records(steps), dtype=dtype, engine=engine,  # type: ignore[arg-type]
        )  # fmt: skip

    return count * lanes * steps / median_seconds(go, 3)


def survey(dtype, lanes, steps=1000, repeats=1):
    """Lane-steps per second of `survey`, and the peak resident memory of this process in GiB."""

    def go():
        jaxsim.survey(
            problem(), RULES["ngd"], jaxsim.init.Gaussian(0.5), key=jax.random.key(0), lanes=lanes, steps=steps,
            record=records(steps), dtype=dtype,
        )  # fmt: skip

    if repeats > 1:
        seconds = median_seconds(go, repeats)
    else:
        began = time.perf_counter()
        go()
        seconds = time.perf_counter() - began
    return lanes * steps / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def margins(count=4000):
    """Distinct att-SVMs solved with their certificates per second, one core."""
    solver = jaxsim.MarginSolver(problem())
    selections = np.unique(np.random.default_rng(0).integers(0, 8, (count, 6)), axis=0)
    assert all(mm.status == "optimal" for mm in solver.solve_many(selections[:100]))
    return len(selections) / median_seconds(lambda: solver.solve_many(selections), 5)


def study(problems=100, steps=2000):
    """Seconds of the published study, first and second call: every run held against its own att-SVM."""
    rng = np.random.default_rng(0)
    batch = [problem(key=k) for k in range(problems)]
    laws = [jaxsim.init.Given(rng.standard_normal((10, 10)) * 1e-3) for _ in batch]

    def go():
        runs = jaxsim.simulate_many(batch, RULES["ngd"], laws, key=jax.random.key(0), lanes=1, steps=steps)
        return np.array([1 - run.direction_error[0, -1] ** 2 / 2 for run in runs])  # correlations

    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        correlations = go()
        seconds.append(time.perf_counter() - began)
    assert np.median(correlations) > 0.99, f"wrong answer: median correlation {np.median(correlations):.4f}"
    return seconds[0], sorted(seconds[1:])[1]

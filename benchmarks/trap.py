"""The numerical trap: normalised GD driven by autodiff against scaled gradients, on one problem.

    python -m benchmarks.trap

At each listed step: the cosine between the autodiff gradient and the true one along the autodiff run, and
1 - correlation of W with the max-margin solution, for autodiff and for jaxsim. The true gradient direction is
the scaled one in float64, which the tests hold against 60- to 2,000-digit arithmetic.
"""

import jax
import jax.numpy as jnp
import numpy as np

STEPS = (100, 500, 1000, 2000, 20000)
ETA = 0.1


def autodiff_run(problem, W0, dtype):
    """W at STEPS when autodiff of the loss in W is normalised, and the gradients it used."""
    X, Z, s = (jnp.asarray(v, dtype) for v in (problem.tokens, problem.queries, problem.scores))

    def loss(W):
        a = jnp.einsum("itd,de,ie->it", X, W, Z, precision="highest")
        return jax.nn.softplus(-(jax.nn.softmax(a, axis=1) * s).sum(1)).mean()

    @jax.jit
    def advance(W, count):
        def step(_, W):
            g = jax.grad(loss)(W)
            return W - ETA * g / jnp.linalg.norm(g)

        return jax.lax.fori_loop(0, count, step, W)

    W, done, seen = jnp.asarray(W0, dtype), 0, []
    for k in STEPS:
        W = advance(W, k - done)
        done = k
        seen.append((np.asarray(W, np.float64), np.asarray(jax.grad(loss)(W), np.float64)))
    return seen


def cosine(a, b):
    """The cosine of two matrices; NaN where one vanishes."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b))


def true_direction(problem, W):
    """∇L(W) up to a positive factor."""
    from jaxsim.coordinates import frame_of
    from jaxsim.model import attention, named

    frame = frame_of(problem, "dual")
    _, start, _ = frame.project(W[None])
    model = attention(problem, frame, named("logistic"), np.float64)
    direction = model.gradient(model.enter(jnp.asarray(start.T))).blocks[0].direction
    g = np.asarray(direction["coeffs"])[:, :, 0]
    return np.einsum("it,itd,ie->de", g, problem.tokens, problem.queries)


def measure():
    """Rows (step, cos64, cos32, miss of autodiff64, autodiff32, jaxsim64, jaxsim32)."""
    import jaxsim

    problem = jaxsim.data.unit_sphere(jax.random.key(1), n=6, T=8, d=10)
    W0 = np.zeros((10, 10))
    mm = jaxsim.max_margin(problem)
    ours = {}
    for dtype in ("float64", "float32"):
        run = jaxsim.simulate(
            problem,
            jaxsim.rules.NGD(ETA),
            jaxsim.init.Given(W0),
            key=jax.random.key(1),
            lanes=1,
            steps=STEPS[-1],
            record=list(STEPS),
            dtype=dtype,
        )
        assert run.verdict[0] == "global"
        ours[dtype] = run.direction_error[0] ** 2 / 2
    seen = {dtype: autodiff_run(problem, W0, dtype) for dtype in ("float64", "float32")}
    rows = []
    for k, step in enumerate(STEPS):
        cosines = [cosine(g, true_direction(problem, W)) for W, g in (seen["float64"][k], seen["float32"][k])]
        missed = [1 - cosine(seen[dtype][k][0], mm.W) for dtype in ("float64", "float32")]
        rows.append((step, *cosines, *missed, ours["float64"][k], ours["float32"][k]))
    return rows


def main():
    """Print the table in Markdown."""
    jax.config.update("jax_enable_x64", True)
    print(
        "| step | cos float64 | cos float32 | autodiff float64 | autodiff float32 | jaxsim float64 | jaxsim float32 |"
    )
    print("|---|---|---|---|---|---|---|")
    for step, c64, c32, *missed in measure():
        print(f"| {step:,} | {c64:.4f} | {c32:.3f} | " + " | ".join(f"{m:.1e}" for m in missed) + " |")


if __name__ == "__main__":
    main()

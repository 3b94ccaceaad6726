"""One sequence of two tokens under NGD from W = 0: every step has length η, so ‖W_k‖ = η k."""

import jax
from matplotlib.figure import Figure

import jaxsim
from jaxsim.reproduce import Result, Row


def run(quick: bool = False) -> Result:
    steps = 100 if quick else 1000
    problem = jaxsim.Problem([[[1.0, 0.0], [0.0, 1.0]]], queries=0, labels=[1], decoder=[1.0, 0.0])
    how = dict(key=jax.random.key(0), lanes=1, steps=steps)
    found = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), jaxsim.init.Zero(), **how)
    figure = Figure()
    figure.subplots().plot(found.steps, found.norm[0])
    return Result(
        name="two-tokens",
        title="Norm of W on one sequence of two tokens",
        source="A closed form, which stands here for a paper.",
        settings=f"n=1, T=2, d=2, NGD η=0.1 from W=0, {steps} steps.",
        rows=(Row(f"‖W‖ at step {steps}", float(found.norm[0, -1]), published=0.1 * steps, within=1e-9),),
        figure=figure,
        arrays={"steps": found.steps, "norm": found.norm},
    )


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)  # as jaxsim.reproduce.reproduce asks for
    result = run(quick=True)
    assert result.rows[0].agrees and not result.unexplained

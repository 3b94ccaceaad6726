"""Tokens on the unit sphere, of which the first in each sequence leads in score by at least `lead`."""

import jax
import numpy as np

import jaxsim


@jaxsim.register
def leader(key: jax.Array, n: int = 6, T: int = 4, d: int = 8, lead: float = 0.5) -> jaxsim.Problem:
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())  # the same on every device
    tokens, decoder = rng.standard_normal((n, T, d)), rng.standard_normal(d)
    tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    decoder /= np.linalg.norm(decoder)
    labels = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    tokens[:, 0] += (2 + lead) * labels[:, None] * decoder  # scores of the others are at most 1, this one's 1 + lead
    return jaxsim.Problem(tokens, queries=0, labels=labels, decoder=decoder)


problem = leader(jax.random.key(0), n=5, lead=1.0)
assert (problem.optimal == 0).all()
assert np.sort(problem.deficits, axis=1)[:, 1].min() >= 1.0
run = jaxsim.simulate(
    problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(0.1), key=jax.random.key(1), lanes=8, steps=50
)
assert len(run.verdict) == 8

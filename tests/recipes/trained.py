"""A trained thing: W alone, with the mean entropy of the attention map at every recorded step."""

import dataclasses

import jax
import numpy as np
import scipy.special

import jaxsim
from jaxsim.train import Weights


@jaxsim.register
@dataclasses.dataclass(frozen=True, eq=False)
class Entropy(Weights):
    name = "entropy"
    curves = {"attention_entropy": "entropy"}  # and the heading of its row in tables

    def columns(self, view):
        """What is added to the lanes: a curve has the axes (lanes, R)."""
        xi, _ = self.locate(view.frame, view.known, view.records.position)
        logits = np.where(view.problem.visible, view.frame.logits(xi), -np.inf)
        phi = scipy.special.softmax(logits, axis=-1)
        return {"attention_entropy": scipy.special.entr(phi).sum(-1).mean(-1)}


problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
how = dict(key=jax.random.key(1), lanes=8, steps=300, train=Entropy())
run = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), jaxsim.init.Zero(), **how)
np.testing.assert_allclose(run.more["attention_entropy"][:, 0], np.log(4))  # at W = 0 attention is even
assert (run.to_pandas()["attention_entropy"] < 1e-3).all()  # and in the end it is sparse

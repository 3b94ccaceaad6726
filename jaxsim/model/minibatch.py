"""Gradients on minibatches of sequences, in the same reduced coordinates: L_B = (1/|B|) Σ_{i∈B} ℓ(m_i).

An epoch is a random order of the sequences, cut into batches; epoch e takes its order from fold_in(key, e). All lanes
see the same batches, so what differs between lanes is their start alone.
"""

import jax
from jaxtyping import Array, Bool, Int

from jaxsim._tree import pytree, static
from jaxsim.model.fixed_decoder import Attention, Blocks
from jaxsim.model.gradient import Gradient
from jaxsim.model.joint import Joint
from jaxsim.model.linear import LinearModel


@pytree
class Minibatch:
    """A model whose gradient at step k is that of batch k; what is recorded is that of all sequences."""

    model: Attention | Joint | LinearModel
    key: Array
    sequences: int = static()
    size: int = static()

    def enter(self, start):
        """As the model."""
        return self.model.enter(start)

    def logits(self, params: Blocks):
        """As the model."""
        return self.model.logits(params)

    def observe(self, params: Blocks):
        """As the model: the loss and gradient of all sequences."""
        return self.model.observe(params)

    def gradient(self, params: Blocks, step: Int[Array, ""]) -> Gradient:
        """The gradient of the batch of this step, and L_B - L_B*."""
        batch = members(self.key, step, self.sequences, self.size)
        return self.model.gradient_on(params, batch[:, None, None])


def members(key: Array, step: Int[Array, ""], n: int, size: int) -> Bool[Array, " n"]:
    """Which of n sequences are in the batch of a step; the last batch of an epoch has what is left."""
    batches = -(-n // size)
    place = jax.random.permutation(jax.random.fold_in(key, step // batches), n).astype(step.dtype)
    return place // size == step % batches

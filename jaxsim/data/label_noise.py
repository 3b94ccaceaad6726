"""Label noise: one token of a sequence tells its class, and of the training sequences some labels are flipped."""

import jax
import numpy as np

from jaxsim._check import number_from_zero, positive_number, whole_number
from jaxsim.data.synthetic import generator, prompt
from jaxsim.problem import Problem


def label_noise(
    key: jax.Array,
    n: int = 20,
    T: int = 8,
    d: int = 200,
    signal: float = 10.0,
    noise: float = 1.0,
    flipped: float = 0.2,
    tests: int = 400,
) -> Problem:
    """Prompt attention on sequences whose first token carries the class, with flipped labels among those to train on.

    The first token is signal · e_1 in one class and signal · e_2 in the other, plus noise; the others are noise alone,
    with N(0, noise²) entries. The query is the number 1, so that logits are x_itᵀ p and a prompt p of d numbers is
    trained; the decoder is (e_1 - e_2)/√2, and classes alternate. Test sequences (`Problem.test`) are of the same law,
    and none of their labels is flipped. Convention of this project, with ingredients of arXiv 2409.17625, where tokens
    of the other class weakly carry theirs and a matrix is trained besides p.

    Args:
        key: the JAX key that the draws depend on.
        n: training sequences.
        T: tokens per sequence.
        d: embedding dimension, at least 2.
        signal: length of the signal in the first token.
        noise: standard deviation of the noise in every entry.
        flipped: share of the training labels that are flipped, from 0 up to below 1: as many as that, rounded, at
            random.
        tests: test sequences; 0 for none.

    Raises:
        ValueError: where a size or number is out of range.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.label_noise(jax.random.key(0), n=10, T=3, d=20, signal=20, tests=50)
        >>> problem, int((problem.scores[:, 0] < 0).sum()), int((problem.test.scores[:, 0] < 0).sum())
        (Problem(n=10, T=3, d=20, 50 tests), 2, 0)
    """
    for name, size, least in (("n", n, 1), ("T", T, 2), ("d", d, 2), ("tests", tests, 0)):
        whole_number(name, size, at_least=least)
    positive_number("signal", signal)
    positive_number("noise", noise)
    if number_from_zero("flipped", flipped) >= 1:
        raise ValueError(f"flipped: expected a share from 0 up to below 1; got {flipped!r}")
    rng, decoder = generator(key), np.zeros(d)
    decoder[:2] = np.sqrt(0.5), -np.sqrt(0.5)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        which = np.arange(count) % 2
        tokens = noise * rng.standard_normal((count, T, d))
        tokens[np.arange(count), 0, which] += signal
        return tokens, 1.0 - 2.0 * which

    tokens, labels = draw(n)
    wrong = rng.permutation(n)[: round(flipped * n)]
    test = prompt(*draw(tests), decoder) if tests else None
    labels[wrong] *= -1
    return prompt(tokens, labels, decoder, test=test)

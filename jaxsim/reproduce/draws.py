"""The data of published experiments, drawn anew from their seeds.

The published programs draw with PyTorch's generator on a CPU: a Mersenne twister, made Gaussian by the Box-Muller
transform, pair by pair in double precision for fewer than 16 numbers, else in single precision in blocks of 16. NumPy
has the same twister with the same seeding, so equal seeds give equal problems, up to the last bit of a logarithm or
cosine. A test holds this against 50 problems that were saved from the published program. Their starts came from an
unseeded generator and cannot be drawn again.

Without vector instructions PyTorch makes the angle of that transform in double precision, which changes the last bits.
Where rounding decides a published number, these bits matter.
"""

import numpy as np
from jaxtyping import Float, Int

BLOCK = 16
WHOLE = np.uint32(2**24 - 1)


class Stream:
    """Random numbers in the order in which the published programs drew them.

    Args:
        seed: the seed.
        vectorised: whether blocks of Gaussian numbers are made by vector instructions.

    Example:
        >>> [round(float(x), 4) for x in Stream(0).normal(2)]
        [1.541, -0.2934]
    """

    def __init__(self, seed: int, vectorised: bool = True):
        self._twister = np.random.RandomState(seed)  # noqa: NPY002 - the one generator with this seeding
        self._spare: float | None = None
        self._transform = _box_muller if vectorised else _box_muller_one_by_one

    def normal(self, *shape: int) -> Float[np.ndarray, "..."]:
        """The next numbers, float32, in this shape."""
        count = int(np.prod(shape))
        numbers = self._pairs(count) if count < BLOCK else self._blocks(count)
        return numbers.reshape(shape)

    def unit(self, *shape: int) -> Float[np.ndarray, "..."]:
        """Gaussian vectors over their length, float32."""
        vectors = self.normal(*shape)
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    def labels(self, n: int) -> Float[np.ndarray, " n"]:
        """Signs of the next n numbers."""
        return np.where(self.normal(n) > 0, 1.0, -1.0)

    def layer(self, d: int) -> Float[np.ndarray, "d d"]:
        """The weights of a linear layer as it starts, uniform on ±1/√d, float32."""
        bound = np.float32(1 / np.sqrt(d))
        return (self._uniform(d * d) * (bound + bound) - bound).reshape(d, d)

    def subsets(self, rows: int, K: int, T: int) -> Int[np.ndarray, "rows T"]:
        """T different numbers below K in each row: those of the largest reciprocals of exponential numbers."""
        waiting = -np.log(1 - self._doubles(rows * K)).astype(np.float32).reshape(rows, K)
        return np.argsort(-1 / waiting, axis=1, kind="stable")[:, :T]

    def choices(self, K: int, count: int) -> Int[np.ndarray, " count"]:
        """Numbers below K, drawn with replacement."""
        return np.searchsorted(np.cumsum(np.ones(K, np.float32)) / np.float32(K), self._doubles(count))

    def below(self, bound: int) -> int:
        """One number below a bound."""
        return int(self._words(1)[0]) % bound

    def _words(self, count: int) -> np.ndarray:
        return self._twister.randint(0, 2**32, size=count, dtype=np.uint32)

    def _pairs(self, count: int) -> np.ndarray:
        numbers = []
        for _ in range(count):
            if self._spare is not None:
                numbers.append(self._spare)
                self._spare = None
                continue
            angle, radius = self._doubles(2)
            radius = np.sqrt(-2 * np.log1p(-radius))
            self._spare = radius * np.sin(2 * np.pi * angle)
            numbers.append(radius * np.cos(2 * np.pi * angle))
        return np.array(numbers, np.float32)

    def _doubles(self, count: int) -> np.ndarray:
        high, low = self._words(2 * count).astype(np.uint64).reshape(count, 2).T
        return ((high << np.uint64(32) | low) & np.uint64(2**53 - 1)).astype(float) / 2**53

    def _blocks(self, count: int) -> np.ndarray:
        uniform = self._uniform(count)
        whole = count // BLOCK * BLOCK
        numbers = np.empty(count, np.float32)
        numbers[:whole] = self._transform(uniform[:whole])
        if whole < count:  # the last block is drawn whole, and overlaps the one before
            numbers[-BLOCK:] = self._transform(self._uniform(BLOCK))
        return numbers

    def _uniform(self, count: int) -> np.ndarray:
        return (self._words(count) & WHOLE).astype(np.float32) * np.float32(2.0**-24)


def _box_muller(uniform: np.ndarray) -> np.ndarray:
    half = BLOCK // 2
    u, v = uniform.reshape(-1, 2, half).swapaxes(0, 1)
    radius, angle = np.sqrt(-2 * np.log(1 - u)), np.float32(2 * np.pi) * v
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()


def _box_muller_one_by_one(uniform: np.ndarray) -> np.ndarray:
    """The same, each function rounded once, and the angle a product in double precision."""
    half = BLOCK // 2
    u, v = uniform.reshape(-1, 2, half).swapaxes(0, 1)
    radius = np.sqrt(-2 * np.log((1 - u).astype(float)).astype(np.float32))
    angle = (2 * np.pi * v.astype(float)).astype(np.float32).astype(float)
    turned = [radius * part.astype(np.float32) for part in (np.cos(angle), np.sin(angle))]
    return np.concatenate(turned, axis=1).ravel()


def unit_problem(seed: int, n: int, T: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, queries, labels and decoder of a problem of the unit-sphere family of arXiv 2308.16898, by its seed.

    Example:
        >>> tokens, queries, labels, decoder = unit_problem(0, n=6, T=8, d=10)
        >>> tokens.shape, labels.tolist()
        ((6, 8, 10), [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    """
    stream = Stream(seed)
    decoder = stream.unit(d)
    labels = stream.labels(n)
    tokens = stream.unit(n, T, d)
    queries = stream.unit(n, d)
    return tokens.astype(float), queries.astype(float), labels, decoder.astype(float)


def uniform_starts(seed: int, count: int, *shape: int) -> Float[np.ndarray, "count ..."]:
    """Matrices with entries uniform on ±1/√d, d the last axis: the law of the published starts, not their draws."""
    bound = 1 / np.sqrt(shape[-1])
    return np.random.default_rng(seed).uniform(-bound, bound, (count, *shape))

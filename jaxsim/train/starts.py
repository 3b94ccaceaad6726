"""Where lanes begin: starts drawn from a law, or given, chunk by chunk."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsim._tree import pytree, static
from jaxsim.coordinates import Frame, as_device
from jaxsim.driver import Plan, Start
from jaxsim.init import Fixed, Law, draw

PIECE = 4  # blocks that are drawn at once, on a CPU


def _all(block: int) -> Float[np.ndarray, " 1"]:
    """Nothing has been taken away at any step."""
    return np.zeros(1)


@pytree
class Known:
    """What is known of the starts of some lanes beside the vectors that the model is entered with.

    Attributes:
        xi: ξ_0.
        outside: ‖W_0 outside the span‖²; of K and Q their parts outside the spans, flattened.
        log_left: log of how much weight decay has left of the start of a block of parameters at every recorded step,
            (R,), or always, (1,).
    """

    xi: Float[np.ndarray, "lanes size"]
    outside: Float[np.ndarray, "lanes ..."]
    log_left: Callable[[int], np.ndarray] = static(default=_all)

    def left(self, block: int) -> Float[np.ndarray, " _"]:
        """How much weight decay has left of the start of a block, (R,) or (1,)."""
        return np.exp(self.log_left(block))

    def of(self, lanes: Any) -> "Known":
        """That of some of the lanes."""
        return dataclasses.replace(self, xi=self.xi[lanes], outside=self.outside[lanes])


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Which lanes begin, in which chunks, and what they draw from: lane i from fold_in(key, first + i)."""

    key: jax.Array
    lanes: int
    first: int
    dtype: np.dtype
    plan: Plan

    def index(self, k: int) -> np.ndarray:
        """Indices of the lanes of chunk k, by blocks, counted from the first lane of the longest run."""
        return self.first + self.plan.chunk(k)

    @property
    def end(self) -> int:
        """The index behind the last lane."""
        return self.first + self.lanes


def of_matrices(how: Drawing, init: Law | Fixed, frame: Frame) -> Iterator[Start]:
    """Starts of W, from a law or as they are given."""
    if isinstance(init, Fixed):
        return _given(how, init, frame)
    return drawn(how, init, frame.entry(how.dtype), frame.size, frame.ambient - frame.rank)


def drawn(how: Drawing, law: Law, entry: Any, size: int, rest: int) -> Iterator[Start]:
    """Starts drawn on the device.

    Args:
        how: which lanes.
        law: the law of W_0.
        entry: removes what lies outside the span and gives start vectors (`Frame.entry`).
        size: numbers in ξ.
        rest: dimension of the space outside the span.
    """
    law = as_device(law, how.dtype)
    for k in range(how.plan.chunks):
        index = how.index(k)
        parts = [draw(law, how.key, part, entry, size, rest, how.dtype) for part in _pieces(index)]
        whole = (
            parts[0] if len(parts) == 1 else (np.concatenate(each)[: len(index)] for each in zip(*parts, strict=True))
        )
        xi, vectors, outside = whole
        yield Start(vectors, Known(_lanes(xi, index.size), np.asarray(outside, np.float64).ravel()))


def _pieces(index: np.ndarray) -> list[jax.Array]:
    """Indices of lanes in pieces of as many blocks: of chunks of any number of them one program draws the lanes.

    On an accelerator a chunk has few blocks, and its draws stay where they are.
    """
    size = PIECE if jax.default_backend() == "cpu" and len(index) > PIECE else len(index)
    padded = index[np.minimum(np.arange(-(-len(index) // size) * size), len(index) - 1)]
    return [jnp.asarray(padded[k : k + size], jnp.uint32) for k in range(0, len(padded), size)]


def _given(how: Drawing, init: Fixed, frame: Frame) -> Iterator[Start]:
    for k in range(how.plan.chunks):
        # Lanes past the end repeat the last one and are dropped afterwards.
        index = np.minimum(how.index(k).ravel(), how.end - 1)
        with np.errstate(over="ignore", invalid="ignore"):  # becomes the verdict of that lane
            xi, vectors, outside = init.at(index, frame)
            vectors = jnp.asarray(vectors.astype(how.dtype))
        yield Start(vectors, Known(_lanes(xi, index.size), np.asarray(outside, np.float64).ravel()))


def _lanes(xi: Any, lanes: int) -> np.ndarray:
    return np.asarray(xi, np.float64).reshape(lanes, -1)

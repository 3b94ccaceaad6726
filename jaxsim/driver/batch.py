"""Many runs at once: the one place that knows about layout, blocks, chunks and devices.

Lanes are the last, contiguous axis of every array, because small trailing axes do not vectorise. On a CPU a
block of lanes stays in cache for the whole run; blocks are sharded over all local devices by one program.
The block is the unit of computation, so results do not depend on how many blocks make a chunk, nor on how
many devices share them.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from jaxsim.driver.compile import Compiled
from jaxsim.driver.step import Model, trajectory
from jaxsim.rules.base import Rule

CACHE_BYTES = 2**16  # per array of a block; a dozen such arrays fit the second-level cache of a core
CPU_BLOCKS = (16, 256)  # narrowest and widest block on a CPU
CPU_SPREAD = 8  # few lanes still make this many blocks, so that all cores have work
ACCELERATOR_BLOCK = 2**14
HOST_COPIES = 5  # of the recorded positions, in float64, while a chunk is analysed


@dataclasses.dataclass(frozen=True)
class Plan:
    """How lanes are grouped: `width` lanes a block, `blocks` blocks a chunk, `chunks` chunks."""

    width: int
    blocks: int
    chunks: int

    def chunk(self, k: int) -> Int[np.ndarray, "blocks width"]:
        """Lane indices of chunk k; the last chunks may run past the number of lanes."""
        size = self.blocks * self.width
        return np.arange(k * size, (k + 1) * size).reshape(self.blocks, self.width)


def plan(lanes: int, size: int, records: int, itemsize: int, chunk_bytes: int, chunk_lanes: int | None) -> Plan:
    """Group `lanes` runs of `size` numbers each, a chunk's records below `chunk_bytes` if one block a device is.

    On a CPU the width depends on the problem and on `lanes` alone, never on the chunk or the devices.
    """
    devices = jax.local_device_count()
    per_lane = (records + 8) * size * (itemsize + HOST_COPIES * 8)
    limit = max(1, min(chunk_bytes // per_lane, chunk_lanes or lanes))
    if jax.default_backend() == "cpu":
        narrow, wide = CPU_BLOCKS
        width = min(wide, max(narrow, _power_of_two(CACHE_BYTES // (size * itemsize))))
        width = min(width, _power_of_two(math.ceil(lanes / CPU_SPREAD), up=True))
    else:
        width = min(_power_of_two(math.ceil(lanes / devices), up=True), _power_of_two(math.ceil(limit / devices)))
        width = min(width, ACCELERATOR_BLOCK)
    total = math.ceil(lanes / width)
    most = max(1, limit // (width * devices)) * devices
    chunks = math.ceil(total / most)
    blocks = math.ceil(math.ceil(total / chunks) / devices) * devices
    return Plan(width, blocks, math.ceil(total / blocks))


def _power_of_two(x: int, up: bool = False) -> int:
    return 1 << (max(1, x) - 1).bit_length() if up else 1 << (max(1, x).bit_length() - 1)


def run_chunks(
    model: Model,
    rule: Rule,
    starts: Iterator[Float[Array, "lanes p"]],
    gaps: Int[np.ndarray, " R"],
    how: Plan,
    models: Iterator[Model] | None = None,
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]]:
    """Records (lanes, R, …), final logits (lanes, n, T) and reports (lanes,) of each chunk, on the host.

    `models`, where given, takes the place of `model` and holds for each chunk one model per block: every leaf has
    the blocks as its first axis.
    """
    mesh = _mesh()
    sharded = NamedSharding(mesh, PartitionSpec("lanes"))
    for start in starts:
        blocks = jnp.swapaxes(jnp.asarray(start).reshape(how.blocks, how.width, -1), 1, 2)
        records, final, report = _PROGRAM(
            model if models is None else jax.device_put(next(models), sharded),
            rule,
            jax.device_put(blocks, sharded),
            jnp.asarray(gaps, jnp.int32),
            mesh,
            models is not None,
        )
        yield (
            {name: _lanes_first(value) for name, value in records.items()},
            _lanes_first(final),
            {name: _lanes_first(value) for name, value in report.items()},
        )


def _lanes_first(x: Array) -> np.ndarray:
    """(blocks, [R,] …, width) on the devices to (lanes, [R,] …) on the host."""
    host = np.moveaxis(np.asarray(x), -1, 1)
    return host.reshape(host.shape[0] * host.shape[1], *host.shape[2:])


@functools.cache
def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), ("lanes",))


def _run_blocks(model, rule, starts: Float[Array, "blocks p width"], gaps, mesh: Mesh, each: bool):
    """All blocks of a chunk: sharded over devices, and on each device one after the other."""

    def local(model, rule, starts, gaps):
        if each:
            return lax.map(lambda pair: trajectory(pair[0], rule, pair[1], gaps), (model, starts))
        return lax.map(lambda start: trajectory(model, rule, start, gaps), starts)

    everywhere, split = PartitionSpec(), PartitionSpec("lanes")
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(split if each else everywhere, everywhere, split, everywhere),
        out_specs=split,
        check_vma=False,
    )(model, rule, starts, gaps)


def compilations() -> int:
    """How many programs of the driver have been compiled in this process."""
    return _PROGRAM.compilations()


_PROGRAM = Compiled(_run_blocks, static_argnames=("mesh", "each"))

"""Many runs at once: the one place that knows about layout, blocks, chunks and devices.

Lanes are the last, contiguous axis of every array, because small trailing axes do not vectorise. On a CPU a
block of lanes stays in cache for the whole run; blocks are sharded over all local devices by one program.
The block is the unit of computation, so results do not depend on how many blocks make a chunk, nor on how
many devices share them.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Real

from jaxsim.driver.compile import Compiled
from jaxsim.driver.engine import XLA, Engine
from jaxsim.driver.horizon import leaping
from jaxsim.driver.schedule import leaps_from, split
from jaxsim.driver.steps import Model
from jaxsim.driver.trajectory import End, trajectory
from jaxsim.rules.base import Rule

CACHE_BYTES = 2**16  # per array of a block; a dozen such arrays fit the second-level cache of a core
CPU_BLOCKS = (16, 256)  # narrowest and widest block on a CPU
CPU_SPREAD = 8  # few lanes still make this many blocks, so that all cores have work
ACCELERATOR_BLOCK = 2**14
LEAP_BLOCK = 32  # widest block of lanes that leap, on a CPU: what they know of their past stays in cache
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
    per_lane = (records + 8) * size * (2 * itemsize + HOST_COPIES * 8)  # the next chunk is on the devices meanwhile
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


@dataclasses.dataclass(frozen=True)
class Start:
    """The starts of one chunk.

    Attributes:
        vectors: what the model is entered with, lanes first.
        known: what the caller wants to find beside the records; the driver does not look at it.
        model: one model per block, every leaf with the blocks as its first axis; None for the model of all chunks.
        rule: one rule per lane, every leaf with a number for each; None for the rule of all chunks.
    """

    vectors: Float[jax.Array | np.ndarray, "... p"]
    known: Any = None
    model: Model | None = None
    rule: Rule | None = None


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What became of one chunk of lanes, on the host and with lanes first.

    Attributes:
        start: as it was given.
        records: what the model observes, (lanes, R, …) each.
        final: the final logits, (lanes, n, T); of linear models, which have no tokens, (lanes, n).
        report: the rule's diagnostics, (lanes,) each.
    """

    start: Start
    records: Any
    final: Float[np.ndarray, "lanes ..."]
    report: dict[str, np.ndarray]

    def results(self, lanes: Any) -> tuple[Any, np.ndarray, dict[str, np.ndarray]]:
        """Records, final logits and report of some lanes."""
        return jax.tree.map(lambda value: value[lanes], (self.records, self.final, self.report))


def run(
    model: Model,
    rule: Rule,
    starts: Iterable[Start],
    recorded: Real[np.ndarray, " R"],
    how: Plan,
    leaps: bool = False,
    engine: Engine = XLA,
    rehearsal: bool = False,
) -> Iterator[Chunk]:
    """Run one chunk of starts after another; the devices compute the next one while the caller looks at one.

    Args:
        model: the model of every chunk that does not bring its own.
        rule: a rule whose leaves are on the device, in the run's dtype; that of every chunk without its own.
        starts: the starts of each chunk of the plan, blocks · width lanes each.
        recorded: the recorded steps, ascending.
        how: the plan.
        leaps: whether lanes may leap; see `leaps_from`.
        engine: what makes the steps.
        rehearsal: whether to run the same programs, so that they are compiled, but to make no step.
    """
    mesh = _mesh()
    sharded = NamedSharding(mesh, PartitionSpec("lanes"))
    near, far = split(recorded, leaps_from(rule)) if leaps else (recorded, recorded[:0])
    marks = np.append(near[-1:], far)
    if rehearsal:
        near, marks = np.zeros_like(near), np.full_like(marks, marks[0])
    gaps = jnp.asarray(np.diff(near, prepend=0), jnp.int32)

    def begun(start: Start) -> tuple[Any, ...]:
        """What the devices are told to compute, and will."""
        blocks = jnp.swapaxes(jnp.asarray(start.vectors).reshape(how.blocks, how.width, -1), 1, 2)
        each = _Each(start.model is not None, start.rule is not None)
        own = jax.device_put(start.model, sharded) if each.model else model
        by = jax.tree.map(lambda leaf: jnp.asarray(leaf, blocks.dtype).reshape(how.blocks, how.width), start.rule)
        by = jax.device_put(by, sharded) if each.rule else rule
        *parts, end = _PROGRAM(own, by, jax.device_put(blocks, sharded), gaps, mesh, each, engine)
        if not len(far):
            return parts, None
        return parts[0], _LEAPS(own, by, end, jnp.asarray(marks, blocks.dtype), mesh, each, engine)

    def done(start: Start, parts: Any, later: Any) -> Chunk:
        if later is None:
            return Chunk(start, *jax.tree.map(_lanes_first, parts))
        early, late = (jax.tree.map(_lanes_first, part) for part in (parts, later))
        early = jax.tree.map(functools.partial(np.compress, np.isin(near, recorded), axis=1), early)
        return Chunk(start, jax.tree.map(lambda *both: np.concatenate(both, 1), early, late[0]), *late[1:])

    before = None
    for start in starts:
        now = start, *begun(start)
        if before is not None:
            yield done(*before)
        before = now
    if before is not None:
        yield done(*before)


def _lanes_first(x: Array) -> np.ndarray:
    """(blocks, [R,] …, width) on the devices to (lanes, [R,] …) on the host."""
    host = np.moveaxis(np.asarray(x), -1, 1)
    return host.reshape(host.shape[0] * host.shape[1], *host.shape[2:])


@functools.cache
def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), ("lanes",))


@dataclasses.dataclass(frozen=True)
class _Each:
    """Whether every block has a model of its own, and every lane a rule."""

    model: bool
    rule: bool

    def blocks(self, model: Any, rule: Any, here: Any) -> tuple[Any, Any, Any]:
        """What is taken apart by blocks."""
        return model if self.model else None, rule if self.rule else None, here

    def of(self, block: tuple[Any, Any, Any], model: Any, rule: Any) -> tuple[Any, Any, Any]:
        """Model, rule and the rest of one block."""
        return block[0] if self.model else model, block[1] if self.rule else rule, block[2]


def _run_blocks(model, rule, starts: Float[Array, "blocks p width"], gaps, mesh: Mesh, each: _Each, engine: Engine):
    """All blocks of a chunk: sharded over devices, and on each device one after the other."""

    def local(model, rule, starts, gaps):
        def block(own):
            return trajectory(*each.of(own, model, rule), gaps, engine)

        return lax.map(block, each.blocks(model, rule, starts))

    return _on_devices(local, mesh, each)(model, rule, starts, gaps)


def _leap_blocks(model, rule, end: End, marks: Float[Array, " R"], mesh: Mesh, each: _Each, engine: Engine):
    """The same from where all blocks have come to: lanes of one model are gathered as they need it."""

    def local(model, rule, end, marks):
        if each.model:
            blocks = each.blocks(model, rule, end)
            return lax.map(lambda own: leaping(*each.of(own, model, rule), marks, by=engine), blocks)
        width = jax.tree.leaves(end)[0].shape[-1]
        width = min(width, LEAP_BLOCK) if jax.default_backend() == "cpu" else width
        lanes = jax.tree.map(lambda x: jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1), end)
        by = jax.tree.map(jnp.ravel, rule) if each.rule else rule
        parts = leaping(model, by, lanes, marks, width, engine, each.rule)
        return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(*x.shape[:-1], -1, width), -2, 0), parts)

    return _on_devices(local, mesh, each)(model, rule, end, marks)


def _on_devices(local: Any, mesh: Mesh, each: _Each) -> Any:
    everywhere, split = PartitionSpec(), PartitionSpec("lanes")
    own, by = (split if apart else everywhere for apart in (each.model, each.rule))
    return jax.shard_map(local, mesh=mesh, in_specs=(own, by, split, everywhere), out_specs=split, check_vma=False)


def compilations() -> int:
    """How many programs of the driver have been compiled in this process."""
    return _PROGRAM.compilations() + _LEAPS.compilations()


_PROGRAM = Compiled(_run_blocks, static_argnames=("mesh", "each", "engine"))
_LEAPS = Compiled(_leap_blocks, static_argnames=("mesh", "each", "engine"))

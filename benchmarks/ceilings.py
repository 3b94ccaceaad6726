"""What the machine can do: the matrix product and the exponentials of one step, alone, over all devices."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.clock import median_seconds

N = 48
WIDTH, STEPS = 512, 2000


def _rate(step, dtype):
    """Lane-steps per second of `step` iterated on blocks of WIDTH lanes that stay in cache."""
    devices = jax.local_device_count()
    x = jnp.asarray(np.random.default_rng(0).standard_normal((devices, N, WIDTH)) * 0.01, dtype)
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("lanes",))
    split = jax.sharding.PartitionSpec("lanes")

    def local(x):
        return lax.map(lambda block: lax.fori_loop(0, STEPS, lambda _, b: step(b), block), x)

    run = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=split, out_specs=split, check_vma=False))
    return devices * WIDTH * STEPS / median_seconds(lambda: jax.block_until_ready(run(x)))


def measure(dtype):
    """Lane-steps per second of the 48 × 48 product, and of 48 exponentials."""
    matrix = jnp.asarray(np.eye(N) * 0.99, dtype)
    product = _rate(lambda x: lax.dot(matrix, x, precision=lax.Precision.HIGHEST), dtype)
    return product, _rate(lambda x: jnp.exp(-x), dtype)

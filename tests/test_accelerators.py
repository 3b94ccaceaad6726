"""What runs on accelerators, as far as a machine without one can tell: it lowers, in float32, with whole products."""

import importlib.util
import os
import re
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsim
from jaxsim.coordinates import as_device
from jaxsim.driver.horizon import leaping
from jaxsim.driver.trajectory import trajectory
from jaxsim.rules import ALL_RULES
from jaxsim.simulation.options import Options
from jaxsim.simulation.work import prepare
from jaxsim.study.shards import x64

PLATFORMS = ("cuda", "rocm", "tpu")
TRAINED = {
    "weights": jaxsim.train.Weights(),
    "minibatches": jaxsim.train.Weights(2, jax.random.key(3)),
    "joint": jaxsim.train.Joint(),
    "key-query": jaxsim.train.KeyQuery(2, nuclear=False),
    "heads": jaxsim.train.Heads(2),
}


def pairs():
    """Every rule with W alone, NGD with everything that is trained, and leaps of GD."""
    return [(n, t) for n in ALL_RULES for t in TRAINED if t == "weights" or n == "ngd"] + [("gd", "leaps")]


def leapt(model, rule, start, gaps):
    """A trajectory, and from its end to step 10⁶ by leaps."""
    *_, end = trajectory(model, rule, start, gaps)
    return leaping(model, rule, end, jnp.asarray([5.0, 1e6], start.dtype))


def program(name, trained):
    """One block of lanes of a rule and a trained thing, as the driver runs it, with what it takes."""
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    rule, options = ALL_RULES[name](0.1), Options(5, dtype="float32")
    work = prepare(
        problem,
        rule,
        jaxsim.init.Gaussian(0.5),
        options,
        key=jax.random.key(1),
        lanes=64,
        train=TRAINED.get(trained, TRAINED["weights"]),
    )
    start = jnp.asarray(next(work.starts()).vectors)
    block = start.reshape(-1, start.shape[-1])[: work.plan.width].T
    function = leapt if trained == "leaps" else trajectory
    return function, (work.model, as_device(rule, np.dtype(np.float32)), block, jnp.asarray([1, 4], jnp.int32))


@pytest.mark.parametrize(("name", "trained"), pairs())
def test_it_lowers_and_every_product_is_of_full_precision(name, trained):
    """Accelerators multiply in fewer digits unless they are told otherwise, for each product."""
    with x64(False):
        function, arguments = program(name, trained)
        text = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments).mlir_module()
    products = re.findall(r"stablehlo\.dot_general\b.*", text)
    assert products and "f64" not in text
    assert all("precision = [HIGHEST, HIGHEST]" in product for product in products), products


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu, of the extra tpu-check")
def test_every_rule_and_trained_thing_compiles_for_a_tpu():
    """Ahead of time, for a v5e that is not there; in a process of its own, whose libtpu looks for none."""
    alone = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    done = subprocess.run(
        [sys.executable, __file__], env=os.environ | alone, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == len(pairs()), done.stdout


def compile_for_tpu():
    """Print what each program needs."""
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    chips = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices
    one = NamedSharding(Mesh(np.array(chips[:1]), ("lanes",)), PartitionSpec())
    for name, trained in pairs():
        function, arguments = program(name, trained)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), arguments)
        made = jax.jit(function).lower(*shapes).compile()
        print(
            f"{name}, {trained}: {made.memory_analysis().temp_size_in_bytes / 2**10:.0f} KiB of temporaries", flush=True
        )


if __name__ == "__main__":
    compile_for_tpu()

"""The same numbers whatever the number of devices, in processes of their own."""

import subprocess
import sys

import pytest

CODE = """
import hashlib, sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
jax.config.update("jax_enable_x64", True)
import jaxsim
assert jax.local_device_count() == int(sys.argv[1])
problem = jaxsim.data.unit_sphere(jax.random.key(1))
digest = hashlib.sha256()
ways = [("float32", jaxsim.rules.NGD(0.1), "dual"), ("float64", jaxsim.rules.Polyak(), "primal")]
if sys.argv[2] == "all":
    ways += [("float64", jaxsim.rules.NGD(0.1), "dual"), ("float32", jaxsim.rules.Polyak(), "primal")]
for dtype, rule, kind in ways:
    run = jaxsim.simulate(problem, rule, jaxsim.init.Gaussian(1.0), key=jax.random.key(2), lanes=100, steps=100,
                          dtype=dtype, coordinates=kind)
    for name in ("start", "final_logits", "direction_error", "log10_gap", "norm", "verdict"):
        digest.update(getattr(run, name).tobytes())
print(digest.hexdigest())
"""


@pytest.mark.promise
@pytest.mark.parametrize("ways", ["some", pytest.param("all", marks=pytest.mark.slow)])
def test_results_do_not_depend_on_the_number_of_devices(ways):
    hashes = set()
    for devices in (1, 2, 3):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", CODE, str(devices), ways], capture_output=True, text=True, check=True
        )
        hashes.add(done.stdout)
    assert len(hashes) == 1

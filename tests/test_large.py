"""Large runs, in processes of their own so that memory can be read; marked slow."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

CODE = """
import json, resource, sys, time
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
import jaxsim
d = int(sys.argv[1])
problem = jaxsim.data.unit_sphere(jax.random.key(0), n=10, T=10, d=d)
def go(lanes):
    began = time.perf_counter()
    run = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(1 / d), key=jax.random.key(1),
                          lanes=lanes, steps=1000, chunk_bytes=2**27)
    return run, time.perf_counter() - began
go(10000)
run, seconds = go(10000)
print(json.dumps(dict(seconds=seconds, finite=bool(run.finite.all()), lanes=run.lanes,
                      rss=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)))
"""


def measure(d):
    done = subprocess.run([sys.executable, "-c", CODE, str(d)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_dimension_4096_costs_what_64_does_and_stays_under_2_gib():
    small, large = measure(64), measure(4096)
    print(small, large)
    assert large["finite"] and large["lanes"] == 10000
    assert large["rss"] < 2.0
    assert large["seconds"] < 1.5 * small["seconds"]


def test_a_million_lanes_fit_in_two_gibibytes():
    code = """
import jax, resource
jax.config.update("jax_num_cpu_devices", 2)
import jaxsim
problem = jaxsim.data.unit_sphere(jax.random.key(1))
found = jaxsim.survey(
    problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(0.5), key=jax.random.key(0), lanes=10**6, steps=1000
)
assert found.lanes == 10**6
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak = float(done.stdout)
    print(f"peak resident memory {peak:.2f} GiB")
    assert peak < 2

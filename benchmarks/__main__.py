"""Throughput against the machine's own ceilings and against rivals: python -m benchmarks [--quick] [--json FILE]."""

import argparse
import json
import os

import jax


def main():
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="check the answers at small sizes; time nothing")
    parser.add_argument("--json", metavar="FILE", help="also write the figures and the environment to FILE")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    jax.config.update("jax_enable_x64", True)
    from benchmarks import ceilings, rivals, throughput
    from jaxsim.storage import environment

    figures = {}
    for dtype in ("float32", "float64"):
        throughput.check(dtype)
        if options.quick:
            print(f"{dtype}: answers agree")
            continue
        real = jax.numpy.dtype(dtype).type
        product, exponential = ceilings.measure(real)
        rows = {"product alone (ceiling)": product, "exponentials alone": exponential}
        for rule in throughput.RULES:
            rows[f"jaxsim {rule}, 10,000 lanes"] = throughput.rate(rule, dtype, 10_000, 2000)
        rows["jaxsim ngd, 1 lane"] = throughput.rate("ngd", dtype, 1, 100_000, 3)
        rows["NumPy, batched, plain gradient"] = rivals.numpy_batched(throughput.problem(), real)
        rows["eager autodiff, one run"] = rivals.eager_loop(throughput.problem(), real)
        print(f"\n{dtype}: lane-steps per second, n=6, T=8, d=10, 2,000 steps, {jax.local_device_count()} devices")
        for name, value in rows.items():
            print(f"  {name:34s} {value / 1e6:10.4f} M   {100 * value / product:6.2f}% of the product")
        figures[dtype] = rows
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"figures": figures, "environment": environment()}, file, indent=2)


if __name__ == "__main__":
    main()

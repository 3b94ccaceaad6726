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
    parser.add_argument("--plot", metavar="FILE", help="also draw throughput against lanes, n, T and d")
    parser.add_argument("--lanes", type=int, default=10**6, help="lanes of the largest survey (default: a million)")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    jax.config.update("jax_enable_x64", True)
    from benchmarks import throughput
    from jaxsim.storage import environment

    for dtype in ("float32", "float64"):
        throughput.check(dtype)
        print(f"{dtype}: answers agree")
    if options.quick:
        return
    print(f"device: {jax.devices()[0].device_kind}, {jax.local_device_count()} of them; JAX {jax.__version__}")
    cold, warm = throughput.study()
    print(
        f"\npublished study, 100 problems x 2,000 steps with att-SVMs: {warm:.2f} s warm, {cold:.2f} s with compilation"
    )
    solved = throughput.margins()
    print(f"att-SVMs with certificates: {solved:,.0f} per second")
    figures = {"study_seconds": {"cold": cold, "warm": warm}, "margins_per_second": solved}
    for dtype in ("float32", "float64"):
        figures[dtype] = _one_dtype(dtype)
    figures["survey"] = _surveys(options.lanes)
    figures["pybasin"] = _pybasin()
    if options.plot:
        from benchmarks import scaling

        figures["scaling"] = scaling.draw(options.plot)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"figures": figures, "environment": environment()}, file, indent=2)


def _one_dtype(dtype):
    """Figures of one precision, in lane-steps per second, each beside the product alone."""
    from benchmarks import ceilings, throughput
    from benchmarks.rivals import eager, measured

    real = jax.numpy.dtype(dtype).type
    product, exponential = ceilings.measure(real)
    print(f"\n{dtype}: lane-steps per second, n=6, T=8, d=10, 2,000 steps, 20 records")
    rows = {}

    def row(name, value):
        rows[name] = value
        print(f"  {name:44s} {value / 1e6:10.4f} M   {100 * value / product:7.3f}% of the product", flush=True)

    row("matrix product alone (the ceiling)", product)
    row("exponentials alone", exponential)
    for rule in throughput.RULES:
        row(f"jaxsim {rule}, 10,000 lanes", throughput.rate(rule, dtype, 10_000, 2000))
    for rule in ("ngd", "gd", "polyak", "adagrad-norm"):
        row(f"jaxsim {rule}, XLA alone", throughput.rate(rule, dtype, 10_000, 2000, engine="xla"))
    row("jaxsim ngd, 1,000 problems x 10 lanes", throughput.many(dtype))
    row("jaxsim ngd, the same by XLA alone", throughput.many(dtype, engine="xla"))
    row("jaxsim ngd, 1 lane", throughput.rate("ngd", dtype, 1, 100_000, 3))
    for d in (16, 4096):
        row(f"jaxsim ngd, d={d}, 10,000 lanes", throughput.rate("ngd", dtype, 10_000, 2000, 3, throughput.problem(d=d)))
    for name, train in throughput.MODELS.items():
        row(f"jaxsim ngd, {name}", throughput.rate("ngd", dtype, 10_000, 1000, 3, None, "saturated", train))
    large = throughput.problem(n=200, T=16, d=64)
    row("jaxsim ngd, n=200 T=16 d=64, 500 lanes", throughput.rate("ngd", dtype, 500, 100, 3, large, "saturated"))
    row("one run, eager autodiff", eager.rate(throughput.problem(), real))
    data = throughput.problem()
    W0 = measured.starts(data, 200)
    right = measured.truth(data, W0)
    off = {"jaxsim ngd": measured.ours(data, dtype, W0, right)}
    for name, (begin, at_once) in measured.rivals().items():
        row(f"{name}, unscaled", measured.rate(data, real, begin, at_once))
        off[name] = measured.off(data, real, begin, at_once, W0, right)
    print(f"\n{dtype}: how far the direction of all logits is off at step {measured.STEPS:,}, median over lanes")
    for name, value in off.items():
        print(f"  {name:44s} {value:10.1e}")
    return {"rates": rows, "off": off}


def _surveys(lanes):
    """Throughput and peak memory of `survey` at ten thousand lanes and at many."""
    from benchmarks import throughput

    small, _ = throughput.survey("float32", 10_000, repeats=5)
    large, memory = throughput.survey("float32", lanes)
    print(f"\nsurvey, float32, 1,000 steps: {small / 1e6:.2f} M at 10,000 lanes, {large / 1e6:.2f} M at {lanes:,}")
    print(f"peak resident memory of the whole process: {memory:.2f} GiB")
    return {"10000": small, str(lanes): large, "peak_rss_gib": memory}


def _pybasin():
    """Basin stability of GD's flow by pybasin, where it is installed."""
    from benchmarks import throughput

    try:
        from benchmarks.rivals import pybasin_flow
    except ImportError:
        print("(pybasin is not installed; it is left out)")
        return None
    for _ in range(2):  # the second without compilation
        theirs, ours, same = pybasin_flow.measure(throughput.problem())
    print(f"\nGD, 1,000 lanes, float64: pybasin {theirs / 1e6:.3f} M, jaxsim {ours / 1e6:.3f} M lane-steps per second,")
    print(f"the same tokens in {100 * same:.1f}% of lanes")
    return {"pybasin": theirs, "jaxsim": ours, "same": same}


if __name__ == "__main__":
    main()

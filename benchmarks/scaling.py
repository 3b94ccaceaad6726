"""Throughput against lanes, n, T and d, as a figure."""

from benchmarks import throughput

AXES = {
    "lanes": [{"lanes": v} for v in (1, 10, 100, 1000, 10_000, 30_000)],
    "n": [{"n": v} for v in (2, 4, 8, 16, 32)],
    "T": [{"T": v} for v in (2, 4, 8, 16, 32)],
    "d": [{"d": v} for v in (4, 16, 64, 256, 1024)],
}


def measure(dtype):
    """{axis: {value: lane-steps per second}} around n=6, T=8, d=10, 4,096 lanes."""
    found = {}
    for axis, points in AXES.items():
        found[axis] = {}
        for point in points:
            lanes = point.get("lanes", 4096)
            sizes = {name: point.get(name, base) for name, base in (("n", 6), ("T", 8), ("d", 10))}
            steps = 5000 if lanes < 1000 else 500
            rate = throughput.rate("ngd", dtype, lanes, steps, 3, throughput.problem(**sizes))
            found[axis][point[axis]] = rate
    return found


def draw(path):
    """Measure both precisions and write the figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = {dtype: measure(dtype) for dtype in ("float32", "float64")}
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.2), sharey=True, layout="constrained")
    for ax, axis in zip(axes, AXES, strict=True):
        for (dtype, rates), colour, marker in zip(found.items(), ("#0072B2", "#D55E00"), "os", strict=True):
            ax.loglog(list(rates[axis]), list(rates[axis].values()), color=colour, marker=marker, label=dtype)
        values = list(AXES[axis][k][axis] for k in range(len(AXES[axis])))
        ax.set_xticks(values, [f"{v:,}" for v in values], fontsize=8)
        ax.minorticks_off()
        ax.set_xlabel(axis)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("lane-steps per second")
    axes[0].legend(frameon=False)
    figure.suptitle("NGD, whole calls; otherwise n = 6, T = 8, d = 10, 4,096 lanes")
    figure.savefig(path, dpi=150)
    return found

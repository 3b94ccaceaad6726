"""Whether results are what another version of the code gives, bit for bit.

    python -m benchmarks.unchanged make FOLDER       results of this checkout, in a few minutes
    python -m benchmarks.unchanged compare OLD NEW   what differs between two such folders; exit code 1 if anything does

Times, paths, environments and pictures are left out of the comparison.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np

LEFT_OUT = {"seconds", "command", "out", "began", "ended", "environment", "time_s", "session"}
RUNS = {
    "digits": ["--lanes", "256", "--steps", "500", "--cores", "2"],
    "digits-float32": ["--lanes", "256", "--steps", "500", "--cores", "2", "--dtype", "float32"],
    "joint": ["--data", "unit-sphere", "--lanes", "100", "--steps", "300", "--train", "joint", "--batch", "3"],
    "key-query": ["--data", "unit-sphere", "--lanes", "64", "--steps", "300", "--train", "key-query", "--scale", "0.3",
                  "--nuclear"],
    "matrix": ["--data", "orthonormal", "--lanes", "32", "--steps", "200", "--init", "sphere", "--rule", "adam=0.02",
               "--rule", "mirror=0.1", "--rule", "sign=0.01", "--rule", "spectral=0.1"],
    "memory": ["--data", "signal-noise", "--lanes", "100", "--steps", "300", "--rule", "heavy-ball=0.5", "--rule",
               "nesterov=0.5", "--rule", "normalised-momentum=0.1", "--rule", "adagrad-norm=1"],
}  # fmt: skip


def make(folder):
    """Results of this checkout."""
    folder.mkdir(parents=True)
    for name, options in RUNS.items():
        _command("run", *options, "--full", "--out", folder / name)
    example = subprocess.run(
        [sys.executable, "-m", "jaxsim", "study", "example"], check=True, capture_output=True, text=True
    )
    (folder / "basin.toml").write_text(example.stdout, encoding="utf-8")
    _command("study", "run", folder / "basin.toml", "--out", folder / "basin")
    _command("reproduce", "all", "--quick", "--out", folder / "reproduce")
    _api(folder)


def _command(*words):
    print("jaxsim", *words, flush=True)
    subprocess.run([sys.executable, "-m", "jaxsim", *map(str, words)], check=True, capture_output=True)


def _api(folder):
    import jax

    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_enable_x64", True)
    import jaxsim
    from jaxsim import basins, init, rules

    key = jax.random.key(5)
    problem = jaxsim.data.unit_sphere(jax.random.key(2), n=4, T=5, d=6)
    ngd, law = rules.NGD(0.1), init.Gaussian(3.0)
    many = [jaxsim.data.unit_sphere(k, n=3, T=4, d=5) for k in jax.random.split(key, 7)]
    run = jaxsim.simulate(problem, ngd, law, key=key, lanes=200, steps=400, keep=("logits", "coeffs"))
    goes = (run.selection == problem.optimal).all(1)
    pairs = run.start[goes][:4], run.start[~goes][:4]
    edges = basins.edges(problem, ngd, *pairs, gap=1e-6, steps=400)
    found = {
        "run": run,
        "block": jaxsim.simulate(problem, rules.PerBlock(rules.NGD(0.1), rules.GD(0.5)), law, key=key, lanes=20,
                                 steps=100, train=jaxsim.train.Joint()),
        "survey": jaxsim.survey(problem, rules.Polyak(), law, key=key, lanes=3000, steps=300, chunk_bytes=2**22),
        "linear": jaxsim.regress(np.eye(4)[:3] + 0.1, [1, -1, 1], ngd, law, key=key, lanes=50, steps=300),
        "geometry": jaxsim.geometry(problem, [ngd, rules.SignDescent(0.02)], key=key, lanes=4, steps=2000),
        "map": basins.basin_map(problem, ngd, basins.random_plane(problem, key), resolution=(24, 16), steps=300,
                                refine=2),
        "shells": basins.shells(problem, ngd, [1.0, 4.0], key=key, lanes=300, steps=300),
        "edges": edges,
        "states": basins.edge_states(edges, ngd, stretches=4),
        "perturbations": basins.smallest_perturbation(problem, ngd, run.start[:6], key=key, reach=5.0, steps=300,
                                                      directions=8, rounds=2),
        "continuation": basins.continuation(lambda eta: (problem, rules.NGD(eta), law), [0.1, 0.2], key=key, lanes=64,
                                            steps=200),
        "comparison": basins.compare(run, jaxsim.simulate(problem, rules.Polyak(), law, key=key, lanes=200, steps=400)),
        "heads": jaxsim.heads({"3,8": jaxsim.data.digits_split((3, 8), images=20)}, [ngd, rules.Polyak()], key=key,
                              lanes=2, steps=40, batch=10),
    }  # fmt: skip
    for dtype in ("float32", "float64"):
        for k, one in enumerate(jaxsim.simulate_many(many, ngd, law, key=key, lanes=5, steps=300, dtype=dtype)):
            found[f"many-{dtype}-{k}"] = one
    for name, result in found.items():
        arrays: Any = dict(_arrays(result, ""))
        np.savez(folder / f"{name}.npz", **arrays)


def _arrays(value, name):
    """Every array and number in a result, by its place."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in (*LEFT_OUT, "settings"):
                yield from _arrays(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, np.ndarray | int | float | str):
        yield name, np.asarray(value)


def compare(old, new):
    """What differs between two folders, a line each."""
    for path in sorted(p for p in old.rglob("*") if p.is_file()):
        name, other = path.relative_to(old), new / path.relative_to(old)
        if path.suffix not in (".npz", ".parquet", ".json", ".npy"):
            continue
        if not other.exists():
            yield f"{name}: missing"
            continue
        before, after = _content(path), _content(other)
        for part in before:
            if part not in after:
                yield f"{name}: {part} is missing"
            elif not _same(before[part], after[part]):
                yield f"{name}: {part} differs: {_brief(before[part])} there, {_brief(after[part])} here"


def _content(path):
    if path.suffix == ".npz":
        with np.load(path) as file:
            found = {name: file[name] for name in file.files}
        meta = json.loads(str(found.pop("meta"))) if "meta" in found else {}
        return found | dict(_leaves(meta, "meta"))
    if path.suffix == ".npy":
        return {"array": np.load(path)}
    if path.suffix == ".json":
        return dict(_leaves(json.loads(path.read_text(encoding="utf-8")), ""))
    import pandas as pd

    table = pd.read_parquet(path)
    return {name: table[name].to_numpy() for name in table if name not in LEFT_OUT}


def _leaves(value, name):
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in LEFT_OUT:
                yield from _leaves(inner, f"{name}.{key}")
    elif isinstance(value, list):
        yield f"{name} length", len(value)
        for k, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{k}]")
    else:
        yield name, value


def _same(a, b):
    if not isinstance(a, np.ndarray):
        return a == b
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype == object:
        return all(np.array_equal(x, y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
    return a.tobytes() == b.tobytes()


def _brief(value):
    text = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
    return text[:60]


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unchanged", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="what")
    commands.add_parser("make").add_argument("folder", type=pathlib.Path)
    two = commands.add_parser("compare")
    two.add_argument("old", type=pathlib.Path)
    two.add_argument("new", type=pathlib.Path)
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder)
        return
    found = list(compare(options.old, options.new))
    print("\n".join(found) if found else "nothing differs")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()

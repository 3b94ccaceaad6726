"""`jaxsim run`: one problem or a few, some rules, many initialisations, a table, a folder and a figure."""

import functools
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxsim._check import whole_number

DATA = "digits, signal-noise, unit-sphere, orthonormal, or a FILE.npz with tokens, queries, labels and decoder"


_Problem = functools.partial(typer.Option, rich_help_panel="Problem")
_Dynamics = functools.partial(typer.Option, rich_help_panel="Dynamics")
_Start = functools.partial(typer.Option, rich_help_panel="Initialisation")
_Machine = functools.partial(typer.Option, rich_help_panel="Machine")
_Output = functools.partial(typer.Option, rich_help_panel="Output")
FAMILY = "(default: the family's)"
RULES_HELP = "NAME=STEP, repeatable: gd and ngd take η, polyak a factor (default: gd=1000, ngd=0.5, polyak=1)."
POSITIONS_HELP = "digits: one-hot positions appended to tokens: none, one-hot or both."
INIT_HELP = "Law of W_0: gaussian, sphere, zero, or a FILE.npy with (d, d) or (lanes, d, d)."


def run(
    data: Annotated[str, _Problem(help=f"Problem: {DATA}.")] = "digits",
    n: Annotated[int | None, _Problem(help=f"Sequences; for digits, images {FAMILY}.")] = None,
    tokens: Annotated[int | None, _Problem("--tokens", "-T", help=f"Tokens per sequence {FAMILY}.")] = None,
    dim: Annotated[int | None, _Problem("--dim", "-d", help=f"Embedding dimension {FAMILY}.")] = None,
    signal: Annotated[float | None, _Problem(help="signal-noise: norm of the signal token (default: 2).")] = None,
    noise: Annotated[float | None, _Problem(help="signal-noise: standard deviation per entry (default: 0.3).")] = None,
    classes: Annotated[str, _Problem(help="digits: the two classes.")] = "3,8",
    positions: Annotated[str, _Problem(help=POSITIONS_HELP)] = "both",
    rule: Annotated[list[str] | None, _Dynamics(help=RULES_HELP)] = None,
    max_step: Annotated[float, _Dynamics(help="polyak: bound on the Frobenius norm of a step.")] = 1000.0,
    loss: Annotated[str, _Dynamics(help="logistic, exponential or linear.")] = "logistic",
    steps: Annotated[int, _Dynamics(help="Horizon: number of updates.")] = 3000,
    init: Annotated[str, _Start(help=INIT_HELP)] = "gaussian",
    scale: Annotated[float, _Start(help="gaussian: standard deviation of an entry; sphere: Frobenius radius.")] = 3.0,
    lanes: Annotated[int, _Start(help="Number of initialisations.")] = 4096,
    seed: Annotated[int, _Start(help="Seed of the problem and of the initialisations.")] = 0,
    dtype: Annotated[str, _Machine(help="float64, or float32: compensated, right at any depth.")] = "float64",
    cores: Annotated[int | None, _Machine(help="CPU cores to use (default: all).")] = None,
    memory: Annotated[int, _Machine(help="Bound on the memory for one chunk of lanes, in MiB.")] = 256,
    out: Annotated[Path | None, _Output(help="New or empty results folder (default: next jaxsim-run-NNN).")] = None,
    full: Annotated[bool, _Output("--full", help="Also save every run's arrays, for jaxsim.Run.load.")] = False,
) -> None:
    """Train one attention head from many random initialisations and say where each run went."""
    import jax

    began = time.perf_counter()
    options = dict(locals())
    jax.config.update("jax_num_cpu_devices", whole_number("cores", cores if cores is not None else _cores()))
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: expected float32 or float64; got {dtype!r}")
    jax.config.update("jax_enable_x64", dtype == "float64")

    from jaxsim import storage
    from jaxsim.cli import table
    from jaxsim.simulation import simulate

    folder = storage.free_folder(out)
    sizes = {"n": n, "T": tokens, "d": dim, "signal": signal, "noise": noise}
    problems = _problems(data, {k: v for k, v in sizes.items() if v is not None}, classes, positions, seed)
    rules = [_rule(text, max_step) for text in rule or ["gd=1000", "ngd=0.5", "polyak=1"]]
    law = _law(init, scale)
    whole_number("lanes", lanes)
    whole_number("memory", memory)
    groups: dict[str, list[Any]] = {}
    with table.progress(len(problems) * len(rules) * lanes) as advance:
        for name, problem in problems.items():
            for r in rules:
                advance(0, f"{name}, {r.name}")
                result = simulate(
                    problem, r, law, key=jax.random.key(seed), lanes=lanes, steps=steps, loss=loss,  # type: ignore[arg-type]
                    dtype=dtype, chunk_bytes=memory * 2**20, chunk_lanes=-(-lanes // 8), progress=_delta(advance),
                )  # fmt: skip
                groups.setdefault(name, []).append(result)
    settings = {k: v for k, v in options.items() if k not in ("jax", "began")}
    settings["command"] = " ".join(["jaxsim", *sys.argv[1:]])
    storage.write(folder, groups, settings, full)
    for name, runs in groups.items():
        table.show(name, runs)
    table.closing(folder, time.perf_counter() - began)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _delta(advance):
    """Simulate reports totals; the progress bar takes differences."""
    done = 0

    def progress(now: int, _: int) -> None:
        nonlocal done
        advance(now - done, None)
        done = now

    return progress


def _problems(data: str, sizes: dict, classes: str, positions: str, seed: int) -> dict[str, Any]:
    import jax

    from jaxsim import data as families

    key = jax.random.fold_in(jax.random.key(seed), 2**32 - 1)  # apart from every lane's key
    random = {
        "unit-sphere": families.unit_sphere,
        "orthonormal": families.orthonormal,
        "signal-noise": families.signal_noise,
    }
    if data in random:
        takes = ("n", "T", "d", "signal", "noise") if data == "signal-noise" else ("n", "T", "d")
        _refuse(data, sizes, takes)
        return {data: random[data](key, **sizes)}
    if data.endswith(".npz"):
        _refuse(data, sizes, ())
        return {Path(data).stem: families.load(data)}
    if data != "digits":
        raise ValueError(f"data: expected {DATA}; got {data!r}")
    _refuse(data, sizes, ("n",))
    if positions not in ("none", "one-hot", "both"):
        raise ValueError(f"positions: expected none, one-hot or both; got {positions!r}")
    try:
        negative, positive = (int(c) for c in classes.split(","))
    except ValueError as error:
        raise ValueError(f"classes: expected two digits, such as 3,8; got {classes!r}") from error
    variants = {"none": (False,), "one-hot": (True,), "both": (False, True)}[positions]
    return {
        f"digits {negative} and {positive}" + (", with positions" if placed else ""): families.digits(
            (negative, positive), sizes.get("n", 20), placed
        )
        for placed in variants
    }


def _refuse(data: str, sizes: dict, takes: tuple[str, ...]) -> None:
    flags = {"n": "--n", "T": "--tokens", "d": "--dim", "signal": "--signal", "noise": "--noise"}
    for name in sizes:
        if name not in takes:
            raise ValueError(f"{flags[name]}: has no meaning for --data {data}")


def _rule(text: str, max_step: float) -> Any:
    from jaxsim.rules import RULES

    name, _, step = text.partition("=")
    if name not in RULES or not step:
        raise ValueError(f"rule: expected NAME=STEP with a name among {', '.join(RULES)}; got {text!r}")
    try:
        value = float(step)
    except ValueError as error:
        raise ValueError(f"rule: expected a number after {name}=; got {step!r}") from error
    return RULES[name](value, max_step=max_step) if name == "polyak" else RULES[name](value)


def _law(init: str, scale: float) -> Any:
    import numpy as np

    from jaxsim import init as laws

    if init == "gaussian":
        return laws.Gaussian(scale)
    if init == "sphere":
        return laws.Sphere(scale)
    if init == "zero":
        return laws.Zero()
    if init.endswith(".npy"):
        try:
            return laws.Given(np.load(init, allow_pickle=False))
        except (OSError, EOFError) as error:
            raise ValueError(f"init: expected a readable .npy file at {init!r}; {error}") from error
    raise ValueError(f"init: expected gaussian, sphere, zero or a FILE.npy; got {init!r}")

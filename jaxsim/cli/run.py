"""`jaxsim run`: one problem or a few, some rules, many initialisations, a table, a folder and a figure."""

import functools
import itertools
import math
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxsim import _machine
from jaxsim._check import one_of, seed_number, whole_number, written_steps
from jaxsim.cli.options import (
    CACHE_HELP,
    DATA_HELP,
    ENGINE_HELP,
    FAMILY,
    HEADS_HELP,
    HORIZON,
    INIT_HELP,
    LANES_HELP,
    NOISE_HELP,
    NUCLEAR_HELP,
    POSITIONS_HELP,
    RULES_HELP,
    SCALE_HELP,
    SHADOW_HELP,
    SIGNAL_HELP,
    STEPPING_HELP,
    STEPS_HELP,
    TRAIN_HELP,
    UNTIL_HELP,
    WIDTH_HELP,
    asked_rules,
    main_rules,
    named_law,
    named_problems,
    training,
)
from jaxsim.cli.programs import keep_in

_Problem = functools.partial(typer.Option, rich_help_panel="Problem")
_Dynamics = functools.partial(typer.Option, rich_help_panel="Dynamics")
_Start = functools.partial(typer.Option, rich_help_panel="Initialisation")
_Machine = functools.partial(typer.Option, rich_help_panel="Machine")
_Output = functools.partial(typer.Option, rich_help_panel="Output")


def run(
    data: Annotated[str, _Problem(help=DATA_HELP)] = "digits",
    n: Annotated[int | None, _Problem(help=f"Sequences; for digits, images {FAMILY}.")] = None,
    tokens: Annotated[int | None, _Problem("--tokens", "-T", help=f"Tokens per sequence {FAMILY}.")] = None,
    dim: Annotated[int | None, _Problem("--dim", "-d", help=f"Embedding dimension {FAMILY}.")] = None,
    signal: Annotated[float | None, _Problem(help=SIGNAL_HELP)] = None,
    noise: Annotated[float | None, _Problem(help=NOISE_HELP)] = None,
    vocabulary: Annotated[int | None, _Problem(help="next-token: tokens of the vocabulary (default: 6).")] = None,
    flipped: Annotated[float | None, _Problem(help="label-noise: share of labels flipped (default: 0.2).")] = None,
    tests: Annotated[int | None, _Problem(help="label-noise: test sequences (default: 400).")] = None,
    classes: Annotated[str | None, _Problem(help="digits: the two classes (default: 3,8).")] = None,
    positions: Annotated[str | None, _Problem(help=POSITIONS_HELP)] = None,
    rule: Annotated[list[str] | None, _Dynamics(help=RULES_HELP)] = None,
    max_step: Annotated[float, _Dynamics(help="polyak: bound on the Frobenius norm of a step.")] = 1000.0,
    loss: Annotated[str, _Dynamics(help="logistic, exponential, linear; negative-log: of next-token.")] = "logistic",
    train: Annotated[str, _Dynamics(help=TRAIN_HELP)] = "weights",
    width: Annotated[int | None, _Dynamics(help=WIDTH_HELP)] = None,
    nuclear: Annotated[bool, _Dynamics("--nuclear", help=NUCLEAR_HELP)] = False,
    heads: Annotated[int | None, _Dynamics(help=HEADS_HELP)] = None,
    batch: Annotated[int | None, _Dynamics(help="weights, joint: sequences per step (default: all).")] = None,
    steps: Annotated[str, _Dynamics(help=STEPS_HELP)] = str(HORIZON),
    stepping: Annotated[str, _Dynamics(help=STEPPING_HELP)] = "auto",
    until: Annotated[str | None, _Dynamics(help=UNTIL_HELP)] = None,
    shadow: Annotated[bool, _Dynamics("--shadow", help=SHADOW_HELP)] = False,
    init: Annotated[str, _Start(help=INIT_HELP)] = "gaussian",
    scale: Annotated[float | None, _Start(help=SCALE_HELP)] = None,
    lanes: Annotated[int | None, _Start(help=LANES_HELP)] = None,
    seed: Annotated[int, _Start(help="Seed of the problem and of the initialisations.")] = 0,
    dtype: Annotated[str, _Machine(help="float64, or float32: compensated, right at any depth.")] = "float64",
    engine: Annotated[str, _Machine(help=ENGINE_HELP)] = "auto",
    cores: Annotated[int | None, _Machine(help="CPU cores to use (default: all).")] = None,
    memory: Annotated[int, _Machine(help="Bound on the memory for one chunk of lanes, in MiB.")] = 256,
    cache: Annotated[Path | None, _Machine(help=CACHE_HELP)] = None,
    out: Annotated[Path | None, _Output(help="New or empty results folder (default: next jaxsim-run-NNN).")] = None,
    full: Annotated[bool, _Output("--full", help="Also save every run's arrays, for jaxsim.Run.load.")] = False,
) -> None:
    """Train one attention head from many random initialisations and say where each run went."""
    horizon = written_steps(steps)
    options = dict(locals()) | {"steps": horizon}
    del options["horizon"]
    import jax

    began = time.perf_counter()
    seed_number("seed", seed)
    cores = whole_number("cores", _machine.cores() if cores is None else cores, at_most=_machine.MOST_CORES)
    jax.config.update("jax_num_cpu_devices", cores)
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: expected float32 or float64; got {dtype!r}")
    jax.config.update("jax_enable_x64", dtype == "float64")
    keep_in(cache)

    from jaxsim import storage
    from jaxsim.cli import table
    from jaxsim.cli.advice import advice
    from jaxsim.native import ENGINES
    from jaxsim.simulation import check, check_kept, simulate
    from jaxsim.simulation.options import Options
    from jaxsim.simulation.rehearsals import rehearsed
    from jaxsim.simulation.stepping import leaps

    given = {
        "n": n,
        "T": tokens,
        "d": dim,
        "signal": signal,
        "noise": noise,
        "K": vocabulary,
        "flipped": flipped,
        "tests": tests,
        "classes": classes,
        "positions": positions,
    }
    problems = named_problems(data, {k: v for k, v in given.items() if v is not None}, seed)
    texts = rule or main_rules(data, horizon == HORIZON and stepping == "auto" and batch is None)
    rules = asked_rules(texts, max_step, horizon)
    law, count = named_law(init, scale, lanes)
    trained, far, recorded = (
        {},
        {},
        [Options(r.steps, r.record, dtype=dtype, stepping=stepping).recorded for r in rules],
    )
    for name, problem in problems.items():
        trained[name] = training(train, width, nuclear, batch, heads, seed, problem)
        check(problem, law, count, loss, trained[name])
        for r, steps_of in zip(rules, recorded, strict=True):
            far[r.named] = leaps(stepping, steps_of, r.rule, trained[name])
        check_kept(problem, count, max(map(len, recorded)), runs=len(problems) * len(rules))
    if until is not None:
        one_of("until", until, ("resolved",))
    one_of("engine", engine, ENGINES)
    whole_number("memory", memory)
    settings = {**options, "lanes": count, "rule": [r.named for r in rules], "init": repr(law)}
    settings["command"] = shlex.join(["jaxsim", *sys.argv[1:]])
    settings["given"] = {"rule": texts, "init": init}  # what `jaxsim replay` reads
    groups: dict[str, list[Any]] = {}
    with storage.claim(out) as folder:
        with table.progress(len(problems) * len(rules) * count) as advance:
            cases = list(itertools.product(problems.items(), rules))
            calls = [
                functools.partial(
                    simulate,
                    problem,
                    r.rule,
                    law,
                    key=jax.random.key(seed),
                    lanes=count,
                    steps=r.steps,
                    record=r.record,
                    stepping=stepping,  # type: ignore[arg-type]
                    engine=engine,  # type: ignore[arg-type]
                    until=until,  # type: ignore[arg-type]
                    shadow=shadow,
                    train=trained[name],
                    loss=loss,  # type: ignore[arg-type]
                    dtype=dtype,
                    chunk_bytes=memory * 2**20,
                    chunk_lanes=None if far[r.named] else math.ceil(count / 8),  # those that leap share last blocks
                    progress=table.delta(advance),
                )
                for (name, problem), r in cases
            ]
            storage.get_ready()
            for ((name, _), r), call in zip(cases, rehearsed(calls), strict=True):
                advance(0, f"{name}: {r.rule.name}")
                groups.setdefault(name, []).append(r.of(call()))
        storage.write(folder, groups, settings, full)
        storage.write_starts(folder, law)
    for name, runs in groups.items():
        table.show(name, runs)
    table.notes(advice(texts, rules, groups, trained))
    leapt = any("leaps" in run.report for runs in groups.values() for run in runs)
    table.closing(folder, time.perf_counter() - began, leapt, shadow)

"""`jaxsim run`: one problem or a few, some rules, many initialisations, a table, a folder and a figure."""

import functools
import inspect
import math
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxsim import _machine
from jaxsim._check import seed_number, whole_number, written_steps
from jaxsim._text import printable
from jaxsim.cli._usage import filled

DATA = (
    "digits, signal-noise, unit-sphere, orthonormal{more_data}, or a FILE.npz with tokens, queries, labels and decoder"
)


_Problem = functools.partial(typer.Option, rich_help_panel="Problem")
_Dynamics = functools.partial(typer.Option, rich_help_panel="Dynamics")
_Start = functools.partial(typer.Option, rich_help_panel="Initialisation")
_Machine = functools.partial(typer.Option, rich_help_panel="Machine")
_Output = functools.partial(typer.Option, rich_help_panel="Output")
FAMILY = "(default: the family's)"
SIZES = "(n, T, d): digits 20, 4, 16; signal-noise 10, 5, 64; unit-sphere 6, 8, 10; orthonormal 4, 4, 16"
DATA_HELP = f"Problem: {DATA}. Default sizes {SIZES}."
RULES_HELP = (
    "NAME=STEP, repeatable: gd and ngd take η, polyak a factor (default: gd=1, ngd=0.5, polyak=1; for digits "
    "gd=1000){also_rule}."
)
POSITIONS_HELP = "digits: one-hot positions appended to tokens: none, one-hot or both (default: both)."
INIT_HELP = "Law of W_0: gaussian, sphere, zero{more_law}, or a FILE.npy with (d, d) or (lanes, d, d)."
SCALE_HELP = "gaussian: standard deviation of an entry; sphere: Frobenius radius (default: 3)."
LANES_HELP = "Number of initialisations, called lanes (default: 4096, or as many as the file of --init has)."
TRAIN_HELP = (
    "What is trained: weights (W), joint (W and the decoder) or key-query (W = K Qᵀ; --scale is that of K, Q)"
    "{also_train}."
)
STEPS_HELP = (
    "Horizon: number of updates, such as 2000 or 1e15. Beyond 2,000 lanes of gd and adagrad-norm leap; of other rules "
    "every step is made."
)
STEPPING_HELP = "auto; every: no leaps; leap: an error where there can be none."
WIDTH_HELP = "key-query: inner width m of K and Q (default: the smaller side of W)."
NUCLEAR_HELP = "key-query: also hold W against the nuclear-norm att-SVM of every selection."
OPTIONS = ("n", "T", "d", "signal", "noise", "classes", "positions")  # that --data may take
LANES = 4096
SCALE = 3.0


def run(
    data: Annotated[str, _Problem(help=DATA_HELP)] = "digits",
    n: Annotated[int | None, _Problem(help=f"Sequences; for digits, images {FAMILY}.")] = None,
    tokens: Annotated[int | None, _Problem("--tokens", "-T", help=f"Tokens per sequence {FAMILY}.")] = None,
    dim: Annotated[int | None, _Problem("--dim", "-d", help=f"Embedding dimension {FAMILY}.")] = None,
    signal: Annotated[float | None, _Problem(help="signal-noise: norm of the signal token (default: 2).")] = None,
    noise: Annotated[float | None, _Problem(help="signal-noise: standard deviation per entry (default: 0.3).")] = None,
    classes: Annotated[str | None, _Problem(help="digits: the two classes (default: 3,8).")] = None,
    positions: Annotated[str | None, _Problem(help=POSITIONS_HELP)] = None,
    rule: Annotated[list[str] | None, _Dynamics(help=RULES_HELP)] = None,
    max_step: Annotated[float, _Dynamics(help="polyak: bound on the Frobenius norm of a step.")] = 1000.0,
    loss: Annotated[str, _Dynamics(help="logistic, exponential or linear.")] = "logistic",
    train: Annotated[str, _Dynamics(help=TRAIN_HELP)] = "weights",
    width: Annotated[int | None, _Dynamics(help=WIDTH_HELP)] = None,
    nuclear: Annotated[bool, _Dynamics("--nuclear", help=NUCLEAR_HELP)] = False,
    batch: Annotated[int | None, _Dynamics(help="weights, joint: sequences per step (default: all).")] = None,
    steps: Annotated[str, _Dynamics(help=STEPS_HELP)] = "2000",
    stepping: Annotated[str, _Dynamics(help=STEPPING_HELP)] = "auto",
    init: Annotated[str, _Start(help=INIT_HELP)] = "gaussian",
    scale: Annotated[float | None, _Start(help=SCALE_HELP)] = None,
    lanes: Annotated[int | None, _Start(help=LANES_HELP)] = None,
    seed: Annotated[int, _Start(help="Seed of the problem and of the initialisations.")] = 0,
    dtype: Annotated[str, _Machine(help="float64, or float32: compensated, right at any depth.")] = "float64",
    cores: Annotated[int | None, _Machine(help="CPU cores to use (default: all).")] = None,
    memory: Annotated[int, _Machine(help="Bound on the memory for one chunk of lanes, in MiB.")] = 256,
    cache: Annotated[Path | None, _Machine(help="Folder in which to keep compiled programs between runs.")] = None,
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
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(_folder(cache)))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

    from jaxsim import storage
    from jaxsim.cli import table
    from jaxsim.simulation import check, check_kept, simulate
    from jaxsim.simulation.options import Options
    from jaxsim.simulation.stepping import leaps

    given = {
        "n": n,
        "T": tokens,
        "d": dim,
        "signal": signal,
        "noise": noise,
        "classes": classes,
        "positions": positions,
    }
    problems = _problems(data, {k: v for k, v in given.items() if v is not None}, seed)
    texts = rule or [f"gd={1000 if data == 'digits' else 1}", "ngd=0.5", "polyak=1"]
    rules = _rules(texts, max_step)
    law, count = _law(init, scale, lanes)
    trained, recorded = {}, Options(horizon, dtype=dtype, stepping=stepping).recorded
    for name, problem in problems.items():
        trained[name] = _train(train, width, nuclear, batch, seed, problem)
        check(problem, law, count, loss, trained[name])
        for r in rules:
            leaps(stepping, recorded, r, trained[name])
        check_kept(problem, count, len(recorded), runs=len(problems) * len(rules))
    whole_number("memory", memory)
    settings = {**options, "lanes": count, "rule": [repr(r) for r in rules], "init": repr(law)}
    settings["command"] = shlex.join(["jaxsim", *sys.argv[1:]])
    settings["given"] = {"rule": texts, "init": init}  # what `jaxsim replay` reads
    groups: dict[str, list[Any]] = {}
    with storage.claim(out) as folder:
        with table.progress(len(problems) * len(rules) * count) as advance:
            for name, problem in problems.items():
                for r in rules:
                    advance(0, f"{name}: {r.name}")
                    result = simulate(
                        problem,
                        r,
                        law,
                        key=jax.random.key(seed),
                        lanes=count,
                        steps=horizon,
                        stepping=stepping,  # type: ignore[arg-type]
                        train=trained[name],
                        loss=loss,  # type: ignore[arg-type]
                        dtype=dtype,
                        chunk_bytes=memory * 2**20,
                        chunk_lanes=math.ceil(count / 8),
                        progress=table.delta(advance),
                    )
                    groups.setdefault(name, []).append(result)
        storage.write(folder, groups, settings, full)
        storage.write_starts(folder, law)
    for name, runs in groups.items():
        table.show(name, runs)
    leapt = any("leaps" in run.report for runs in groups.values() for run in runs)
    table.closing(folder, time.perf_counter() - began, leapt)


def _folder(cache: Path) -> Path:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cache: cannot make the folder {str(cache)!r}: {error.strerror}") from error
    return cache


def _problems(data: str, given: dict[str, Any], seed: int) -> dict[str, Any]:
    import jax

    from jaxsim import data as families

    if data != "digits" and data in families.FAMILIES:
        family = families.FAMILIES[data]
        takes = inspect.signature(family).parameters
        _refuse(data, given, tuple(name for name in takes if name in OPTIONS))
        if "key" in takes:  # apart from every lane's key
            given = {"key": jax.random.fold_in(jax.random.key(seed), 2**32 - 1), **given}
        return {data: family(**given)}
    if data.lower().endswith(".npz"):
        _refuse(data, given, ())
        return {printable(Path(data).stem): families.load(data)}
    if data != "digits":
        raise ValueError(f"data: expected {filled(DATA)}; got {data!r}")
    _refuse(data, given, ("n", "classes", "positions"))
    classes, positions = given.get("classes", "3,8"), given.get("positions", "both")
    if positions not in ("none", "one-hot", "both"):
        raise ValueError(f"positions: expected none, one-hot or both; got {positions!r}")
    try:
        negative, positive = (int(c) for c in classes.split(","))
    except ValueError as error:
        raise ValueError(f"classes: expected two digits, such as 3,8; got {classes!r}") from error
    variants = {"none": (False,), "one-hot": (True,), "both": (False, True)}[positions]
    return {
        f"digits {negative} and {positive}" + (", with positions" if placed else ""): families.digits(
            (negative, positive), given.get("n", 20), placed
        )
        for placed in variants
    }


def _refuse(data: str, given: dict[str, Any], takes: tuple[str, ...]) -> None:
    flags = {"T": "tokens", "d": "dim"}
    for name in given:
        if name not in takes:
            options = ", ".join(f"--{flags.get(t, t)}" for t in takes) or "no further options"
            raise ValueError(f"--{flags.get(name, name)}: has no meaning for --data {data}, which takes {options}")


def _train(what: str, width: int | None, nuclear: bool, batch: int | None, seed: int, problem: Any) -> Any:
    """What is trained; ValueError where an option has no meaning for it."""
    import jax

    from jaxsim.train import KINDS

    if what not in KINDS:
        raise ValueError(f"train: expected {', '.join(KINDS)}; got {what!r}")
    takes = inspect.signature(KINDS[what]).parameters
    for name, given in {"width": width is not None, "nuclear": nuclear, "batch": batch is not None}.items():
        if given and name not in takes:
            raise ValueError(f"--{name}: has no meaning for --train {what}")
    key = jax.random.fold_in(jax.random.key(seed), 2**32 - 2)
    values = {"width": width, "nuclear": nuclear, "batch": batch, "key": key}
    if width is None and "width" in takes:
        values["width"] = min(problem.W_shape)
    return KINDS[what](**{name: value for name, value in values.items() if name in takes})


def _rules(texts: list[str], max_step: float) -> list[Any]:
    rules = [_rule(text, max_step) for text in texts]
    names = [repr(r) for r in rules]
    for text, name in zip(texts, names, strict=True):
        if names.count(name) > 1:
            raise ValueError(f"rule: {text!r} is given twice")
    return rules


def _rule(text: str, max_step: float) -> Any:
    from jaxsim.rules import MATRIX_RULES, RULES, numbers_first

    rules = {name: rule for name, rule in (RULES | MATRIX_RULES).items() if numbers_first(rule)}
    name, _, step = text.partition("=")
    if name not in rules or not step:
        raise ValueError(f"rule: expected NAME=STEP with a name among {', '.join(rules)}; got {text!r}")
    try:
        value = float(step)
    except ValueError as error:
        raise ValueError(f"rule: expected a number after {name}=; got {step!r}") from error
    try:
        bounded = "max_step" in inspect.signature(rules[name]).parameters
        return rules[name](value, max_step=max_step) if bounded else rules[name](value)
    except ValueError as error:
        raise ValueError(f"rule: {text!r}: {error}") from error


def _law(init: str, scale: float | None, lanes: int | None) -> tuple[Any, int]:
    """The law of W_0 and the number of lanes; one lane where all would be the same."""
    from jaxsim import _archive
    from jaxsim import init as laws

    law = laws.LAWS.get(init)
    first = None if law is None else next(iter(inspect.signature(law).parameters.values()), None)
    if scale is not None and first is None:
        raise ValueError(f"--scale: has no meaning for --init {init}")
    if law is laws.Zero:
        return law(), _single(init, lanes)
    if law is not None:
        own = laws.LAWS.source(init) is not None and (first is None or first.default is not first.empty)
        given = [] if first is None or (own and scale is None) else [SCALE if scale is None else scale]
        return law(*given), whole_number("lanes", LANES if lanes is None else lanes)
    if not init.lower().endswith(".npy"):
        known = ", ".join(laws.LAWS)
        raise ValueError(f"init: expected {known} or a FILE.npy; got {init!r}")
    try:
        W0 = _archive.read_array(init)
    except ValueError as error:
        raise ValueError(f"init: expected a readable .npy file at {init!r}; {error}") from error
    if W0.ndim != 3:
        return laws.Given(W0), _single(init, lanes)
    if lanes not in (None, len(W0)):
        raise ValueError(f"lanes: {init!r} holds {len(W0)} matrices; expected --lanes {len(W0)} or none; got {lanes}")
    return laws.Given(W0), whole_number("lanes", len(W0))


def _single(init: str, lanes: int | None) -> int:
    if lanes not in (None, 1):
        raise ValueError(f"lanes: --init {init} is one start, so all lanes would be the same; expected 1; got {lanes}")
    return 1

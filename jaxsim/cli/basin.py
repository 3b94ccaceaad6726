"""`jaxsim basin`: a map of a plane through initialisation space."""

import functools
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxsim import _machine
from jaxsim._check import finite_number, seed_number, whole_number, written_steps
from jaxsim._text import printable
from jaxsim.cli.console import Console
from jaxsim.cli.options import DATA_HELP, NOISE_HELP, SIGNAL_HELP, STEPS_HELP, named_problems, named_rule

PROBES = 512  # starts of the quick run that finds the most common local selection

_Problem = functools.partial(typer.Option, rich_help_panel="Problem")
_Plane = functools.partial(typer.Option, rich_help_panel="Plane")
_Dynamics = functools.partial(typer.Option, rich_help_panel="Dynamics")
_Machine = functools.partial(typer.Option, rich_help_panel="Machine")
NGD = "ngd=0.1"
EDGE_HELP = (
    "In place of --rule: GD at these multiples of 2/λ, λ the largest curvature of the loss at any start of the window, "
    "such as 1,4,16. A map of each, and the dimension of their borders."
)
PLANE_HELP = (
    "limits: W_mm and the W^α of the local selection that most starts N(0, 1) find; random; or two files A.npy,B.npy."
)


def basin(
    data: Annotated[str, _Problem(help=DATA_HELP)] = "unit-sphere",
    n: Annotated[int | None, _Problem(help="Sequences.")] = None,
    tokens: Annotated[int | None, _Problem("--tokens", "-T", help="Tokens per sequence.")] = None,
    dim: Annotated[int | None, _Problem("--dim", "-d", help="Embedding dimension.")] = None,
    signal: Annotated[float | None, _Problem(help=SIGNAL_HELP)] = None,
    noise: Annotated[float | None, _Problem(help=NOISE_HELP)] = None,
    classes: Annotated[str | None, _Problem(help="digits: the two classes (default: 3,8).")] = None,
    positions: Annotated[str | None, _Problem(help="digits: positions appended: none or one-hot.")] = None,
    plane: Annotated[str, _Plane(help=PLANE_HELP)] = "limits",
    window: Annotated[str, _Plane(help="First and last a, first and last b.")] = "-10,10,-10,10",
    zoom: Annotated[str | None, _Plane(help="A,B,FACTOR: magnify the window around the point (A, B).")] = None,
    resolution: Annotated[int, _Plane(help="Pixels on each side, 2 to 1000.")] = 256,
    refine: Annotated[int, _Plane(help="Run every 2^k-th pixel, and then only near borders.")] = 0,
    rule: Annotated[str, _Dynamics(help="NAME=STEP, such as ngd=0.1, gd=1, polyak=1{more_rule}.")] = NGD,
    versus: Annotated[str | None, _Dynamics(help="A second rule NAME=STEP; also draws where the two differ.")] = None,
    edge: Annotated[str | None, _Dynamics(help=EDGE_HELP)] = None,
    max_step: Annotated[float, _Dynamics(help="polyak: bound on the Frobenius norm of a step.")] = 1000.0,
    steps: Annotated[str, _Dynamics(help=STEPS_HELP)] = "2000",
    seed: Annotated[int, _Dynamics(help="Seed of the problem and of random planes.")] = 0,
    dtype: Annotated[str, _Machine(help="float32 (compensated, right at any depth) or float64.")] = "float32",
    memory: Annotated[int, _Machine(help="Bound on the memory of the map, in MiB.")] = 1024,
    out: Annotated[Path | None, _Machine(help="New or empty results folder (default: next jaxsim-basin-NNN).")] = None,
) -> None:
    """Map a plane through initialisation space: which pixel goes global, which local, and how soon."""
    options = {name: str(v) if isinstance(v, Path) else v for name, v in locals().items()}
    import jax

    began = time.perf_counter()
    seed_number("seed", seed)
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: expected float32 or float64; got {dtype!r}")
    jax.config.update("jax_num_cpu_devices", _machine.cores())
    jax.config.update("jax_enable_x64", dtype == "float64")
    from jaxsim import basins, plot, storage
    from jaxsim.basins.maps import check_map
    from jaxsim.cli import table
    from jaxsim.rules import GD
    from jaxsim.simulation.options import Options
    from jaxsim.simulation.stepping import leaps

    given = {"n": n, "T": tokens, "d": dim, "signal": signal, "noise": noise, "classes": classes}
    given["positions"] = positions or ("none" if data == "digits" else None)
    (name, problem), *others = named_problems(data, {k: v for k, v in given.items() if v is not None}, seed).items()
    if others:
        raise ValueError(f"positions: expected none or one-hot, one problem for one map; got {positions!r}")
    rules = [named_rule(text, max_step) for text in (rule, versus) if text is not None]
    seen, pixels = _window(window, zoom), whole_number("resolution", resolution, at_least=2)
    check_map(seen, (pixels, pixels), refine, whole_number("memory", memory) * 2**20)
    horizon = written_steps(steps)
    for r in rules:
        leaps("auto", Options(horizon, dtype=dtype).recorded, r)
    multiples = [] if edge is None else _multiples(edge, rule, versus)
    space = _plane(plane, problem, rules[0], seed)
    if multiples:
        longest = basins.stable_step(problem, space, window=seen)
        rules = [GD(factor * longest) for factor in multiples]
    settings = options | {"command": shlex.join(["jaxsim", *sys.argv[1:]])}
    maps: list[Any] = []
    with storage.claim(out, "basin") as folder:
        with table.progress(len(rules) * pixels**2) as advance:
            for r in rules:
                advance(0, f"{name}: {r.name}")
                done = table.delta(advance)
                maps.append(
                    basins.basin_map(
                        problem,
                        r,
                        space,
                        window=seen,
                        resolution=(pixels, pixels),
                        steps=horizon,
                        refine=refine,
                        memory=memory * 2**20,
                        dtype=dtype,
                        progress=done,
                    )  # fmt: skip
                )
                maps[-1].save(folder / f"map-{len(maps) - 1}-{r.name}.npz")
        storage.write_json(folder, settings=settings, environment=storage.environment())
        title = f"{name}: n={problem.shape[0]}, T={problem.shape[1]}, d={problem.shape[2]}"
        figure = plot.borders(maps, multiples, "step size over 2/λ") if multiples else plot.maps(maps, title)
        storage.write_figure(folder / "figure.png", figure)
    console = Console()
    for found in maps:
        _describe(found, console)
    if len(maps) == 2 and not multiples:
        verdicts, ends = (basins.disagreement(*maps, selections=too).mean() for too in (False, True))
        console.print(f"verdicts differ on {verdicts:.2%} of the window, verdicts or selections on {ends:.2%}")
    table.where(folder, time.perf_counter() - began)


def _window(window: str, zoom: str | None) -> tuple[float, float, float, float]:
    edges = _numbers("window", window, 4, "four numbers, such as -10,10,-10,10")
    if zoom is None:
        return edges  # type: ignore[return-value]
    a, b, factor = _numbers("zoom", zoom, 3, "A,B,FACTOR, such as 2.5,-1,8")
    if factor <= 0:
        raise ValueError(f"zoom: expected a factor above 0; got {factor:g}")
    half_a, half_b = (edges[1] - edges[0]) / 2 / factor, (edges[3] - edges[2]) / 2 / factor
    return a - half_a, a + half_a, b - half_b, b + half_b


def _multiples(edge: str, rule: str, versus: str | None) -> list[float]:
    """The numbers of --edge."""
    if rule != NGD or versus is not None:
        raise ValueError(f"edge: expected no --rule and no --versus beside it; got {versus if rule == NGD else rule!r}")
    found = sorted({finite_number("edge", part) for part in edge.split(",")})
    if found[0] <= 0:
        raise ValueError(f"edge: expected numbers above 0, such as 1,4,16; got {edge!r}")
    return found


def _numbers(name: str, text: str, count: int, expected: str) -> tuple[float, ...]:
    parts = text.split(",")
    if len(parts) != count:
        raise ValueError(f"{name}: expected {expected}; got {text!r}")
    return tuple(finite_number(name, part) for part in parts)


def _plane(text: str, problem: Any, rule: Any, seed: int) -> Any:
    import jax

    from jaxsim import _archive, basins

    if text == "random":
        return basins.random_plane(problem, jax.random.fold_in(jax.random.key(seed), 2**32 - 2))
    if text == "limits":
        return basins.limits_plane(problem, _common_local(problem, rule, seed))
    files = text.split(",")
    if len(files) != 2:
        raise ValueError(f"plane: expected limits, random, or two files A.npy,B.npy; got {text!r}")
    matrices = []
    for file in files:
        try:
            matrices.append(_archive.read_array(file))
        except ValueError as error:
            raise ValueError(f"plane: expected a readable .npy file of numbers at {file!r}; {error}") from error
        if matrices[-1].shape != problem.W_shape:
            raise ValueError(f"plane: expected matrices {problem.W_shape}; {file!r} holds {matrices[-1].shape}")
    return basins.plane(*matrices, names=(printable(Path(files[0]).stem), printable(Path(files[1]).stem)))


def _common_local(problem: Any, rule: Any, seed: int) -> Any:
    """The local selection at which most of a few hundred starts end."""
    import jax
    import numpy as np

    from jaxsim.init import Gaussian
    from jaxsim.simulation import simulate

    key = jax.random.key(seed)
    run = simulate(problem, rule, Gaussian(1.0), key=key, lanes=PROBES, steps=2000, record=[2000], limits="saturated")
    local = run.selection_number[run.verdict == "local"]
    if len(local) == 0:
        raise ValueError(
            f"plane: none of {PROBES} starts N(0, 1) ended local within 2,000 steps, so there is no second limit to "
            "map; expected --plane random or --plane A.npy,B.npy"
        )
    return run.selections[np.bincount(local).argmax()]


def _describe(found: Any, console: Console) -> None:
    """Shares, basins and border geometry in a few lines."""
    from jaxsim import basins

    shares = ", ".join(f"{name} {share:.1%}" for name, share in found.shares().items() if share)
    run, rule = int(found.computed.sum()), found.settings["rule"]
    console.print(f"{rule}: {shares} of the window; {run:,} of {found.computed.size:,} pixels run",
                  highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    is_global = (found.verdict == 0).astype(int)
    for name, labels in (("global basin", is_global), ("all selections", found.labels)):
        try:
            entropy, alpha = basins.basin_entropy(labels), basins.uncertainty_exponent(labels)
            ends = "no interval, which needs a longer border"
            if alpha.low == alpha.low:
                ends = f"95% interval [{2 - alpha.high:.3f}, {2 - alpha.low:.3f}]"
            text = (
                f"border dimension {alpha.dimension:.3f}, {ends}; "
                f"basin entropy {entropy.entropy:.4f}, on the border {entropy.boundary_entropy:.4f} (log 2 = 0.6931)"
            )
        except ValueError as error:
            text = str(error)
        console.print(f"  {name}: {text}", highlight=False, markup=False, soft_wrap=True)

"""Local convergence: 100 random problems under NGD, W- and (K, Q)-parametrised (arXiv 2308.16898)."""

from importlib import resources
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxsim import init, rules
from jaxsim.margin import MaxMargin, max_margin
from jaxsim.problem import Problem
from jaxsim.reproduce import draws, original
from jaxsim.reproduce.local_curves import Curves, Measured
from jaxsim.reproduce.local_report import figure, rows
from jaxsim.reproduce.paths import TracedKeyQuery, cosine, nuclear, weights_along
from jaxsim.reproduce.result import Result
from jaxsim.simulation import simulate, simulate_many

SOURCE = (
    "Tarzanagh, Li, Thrampoulidis, Oymak, arXiv 2308.16898. Settings: the authors' released program. Published "
    "numbers: that program as released, run whole; its figures where a row says so."
)
SETTINGS = (
    "n=6, T=8, d=10, cross-attention, unit-norm Gaussian data of the published seeds 0 to {last}, W_0, K_0, Q_0 "
    "uniform on ±1/√d, NGD with η=0.1, 2,000 steps, W on to {deep:,}. W_0 of runs 0 to 49 is the published one; the "
    "others, and all K_0 and Q_0, are our draws: theirs came from an unseeded generator."
)
N, T, D, ETA, STEPS, DEEP = 6, 8, 10, 0.1, 2000, 100_000
KNOWN = 50  # runs whose W_0 is known
SHOWN = np.arange(0, 1001, 20)  # steps of the published figure


def published() -> dict[str, np.ndarray]:
    """Starts, final selections and correlations of the first 50 runs of the published program."""
    file = resources.files("jaxsim.reproduce") / "data" / "local_convergence.npz"
    with file.open("rb") as stream, np.load(stream) as archive:
        return {name: np.asarray(archive[name], float if name == "starts" else None) for name in archive.files}


def run(quick: bool = False) -> Result:
    """The experiment. Quick: 10 problems and 10,000 steps in place of 100 and 100,000."""
    study = measure(10, 10_000) if quick else measure(100, DEEP)
    arrays = {
        f"{kind}_{name}": getattr(getattr(study, kind), name)
        for kind in ("weights", "weights_original", "key_query", "key_query_original")
        for name in ("selection", "softmax", "frobenius", "nuclear")
    }
    names = ("steps", "deep_steps", "step_length", "against_published", "deep_selection", "deep_correlation")
    return Result(
        name="local-convergence",
        title="Local convergence of W and of (K, Q)",
        source=SOURCE,
        settings=SETTINGS.format(last=len(study.problems) - 1, deep=int(study.deep_steps[-1])),
        rows=rows(study),
        figure=figure(study),
        arrays=arrays | {name: getattr(study, name) for name in names},
        missing=(
            "The (K, Q) curves run by run: their starts came from an unseeded generator; only their law is known.",
            "The published figure of (K, Q) correlations: the released program saved the one of W alone.",
        ),
    )


def measure(count: int, deep: int) -> Measured:
    """Run everything on the first `count` published problems."""
    saved = published()
    data = [draws.unit_problem(seed, N, T, D) for seed in range(count)]
    batch: Any = dict(zip("XZyu", map(np.stack, zip(*data, strict=True)), strict=True))
    problems = [Problem(*parts) for parts in data]
    drawn = draws.uniform_starts(0, 3 * count, D, D)
    starts = np.concatenate([saved["starts"], drawn[:count]])[:count]
    early = np.unique(np.concatenate([SHOWN, saved["at"] + 1, [STEPS]]))
    late = np.unique(np.geomspace(STEPS, deep, 20).astype(int))[1:]
    R = len(early)
    deep_W, verdict = _weights(problems[:KNOWN], starts[:KNOWN], np.concatenate([early, late]))
    W = deep_W[:, :R]
    if count > KNOWN:
        # As many records as before, so that nothing compiles again; only those that both have are used.
        padded = np.union1d(early, np.setdiff1d(np.arange(STEPS), early)[-len(late) :])
        rest, _ = _weights(problems[KNOWN:], starts[KNOWN:], padded)
        W = np.concatenate([W, rest[:, np.isin(padded, early)]])
    factors = {"K": drawn[count : 2 * count], "Q": drawn[2 * count :]}
    eps = float(np.finfo(float).eps)
    descend = {"eta": ETA, "record": early.tolist(), "eps": eps}
    theirs, share = original.descend(original.weights_loss, {"W": starts}, batch, **descend)
    pair, _ = original.descend(original.factors_loss, factors, batch, **descend)
    products = pair["K"] @ pair["Q"].swapaxes(-1, -2)
    curves = _curves(
        problems, [W, theirs["W"].swapaxes(0, 1), _products(problems, factors, early), products.swapaxes(0, 1)]
    )
    last = _logits(problems[:KNOWN], deep_W[:, -1:])[:, -1].argmax(-1)
    claimed = saved["selection"][:count]
    return Measured(
        saved, problems, early, late, *curves,
        against_published=cosine(W[:KNOWN], _directions(problems[:KNOWN], claimed)),
        step_length=share["W"][-1],
        deep_selection=last,
        deep_verdict=verdict,
        deep_correlation=cosine(deep_W, _directions(problems[:KNOWN], last)),
    )  # fmt: skip


def _weights(problems, starts, record) -> tuple[Float[np.ndarray, "runs R d d"], np.ndarray]:
    """W along every run with right gradients, and the final verdicts."""
    runs = simulate_many(
        problems, rules.NGD(ETA), [init.Given(W) for W in starts], key=jax.random.key(0), lanes=1,
        steps=int(record[-1]), record=record.tolist(), keep=("coeffs",),
    )  # fmt: skip
    paths = np.stack([weights_along(run, start) for run, start in zip(runs, starts, strict=True)])
    return paths, np.array([run.verdict[0] for run in runs])


def _products(problems, factors, record) -> Float[np.ndarray, "runs R d d"]:
    """K Qᵀ along every run with right gradients."""
    options: Any = {"steps": int(record[-1]), "record": record.tolist(), "train": TracedKeyQuery(D)}
    paths = []
    for problem, K, Q in zip(problems, factors["K"], factors["Q"], strict=True):
        start: Any = init.Factors(K, Q)
        found = simulate(
            problem, rules.NGD(ETA), start, key=jax.random.key(0), lanes=1, limits="saturated", **options
        )  # fmt: skip
        paths.append(found.more["product"][0])
    return np.stack(paths)


def _curves(problems: list[Problem], kinds: list[Float[np.ndarray, "runs R d d"]]) -> list[Curves]:
    logits = [_logits(problems, W) for W in kinds]
    chosen = [a[:, -1].argmax(-1) for a in logits]
    solved = nuclear(problems * len(kinds), np.concatenate(chosen))
    other = np.stack([mm.W for mm in solved]).reshape(len(kinds), len(problems), 1, D, D)
    found = []
    for W, a, alpha, limit in zip(kinds, logits, chosen, other, strict=True):
        softmax = (1 / np.exp(a - a.max(-1, keepdims=True)).sum(-1)).mean(-1)
        found.append(Curves(alpha, softmax, cosine(W, _directions(problems, alpha)), cosine(W, limit)))
    return found


def _logits(problems, W) -> Float[np.ndarray, "runs R n T"]:
    return np.stack(
        [np.einsum("itd,rde,ie->rit", p.tokens, w, p.queries, optimize=True) for p, w in zip(problems, W, strict=True)]
    )


def _directions(problems, selections) -> Float[np.ndarray, "runs 1 d d"]:
    """The Frobenius att-SVM of each problem and selection."""
    solved: list[MaxMargin] = [max_margin(p, alpha) for p, alpha in zip(problems, selections, strict=True)]
    return np.stack([mm.W for mm in solved])[:, None]

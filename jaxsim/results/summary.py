"""A run as a few plain numbers, and as a table of lanes."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsim.analysis import Rate, fractions
from jaxsim.analysis.verdict import SETTLED
from jaxsim.results.lanes import CURVES

if TYPE_CHECKING:
    import pandas

ERRORS = (0.1, 0.03, 0.01)  # of which the step is told at which the direction error comes to stay below
NAMED = 20  # lanes that were not finite


LARGEST, COUNTED = (
    ("leap_error", "amplification", "next_move"),
    ("stuck_at",),
)  # diagnostics of which not the sum over lanes is told
BY_LANE = ("leapt_from",)  # and of which nothing is


def of_all(name: str, values: np.ndarray) -> float:
    """What is told of a rule's diagnostic over all lanes: the sum, the largest value, or how many lanes have one."""
    if name in COUNTED:
        return float(np.sum(~np.isnan(values)))
    return float(np.nanmax(values)) if name in LARGEST else float(np.nansum(values))


def summary(run: Any) -> dict[str, Any]:
    """The figures of the printed table of a `Run`; None where there is none."""
    verdicts = {name: dataclasses.asdict(p) for name, p in run.fractions().items()}
    law = run.settings["predicts"]
    error = {name: run.direction_error[run.verdict == name, -1] for name in ("global", "local")}
    bad = np.flatnonzero(~run.finite)
    return {
        "rule": run.settings["rule"],
        "rule_name": run.settings["rule_name"],
        "label": run.label,
        "lanes": run.lanes,
        "steps": run.steps[-1].item(),
        "engine": run.settings.get("engine", "xla"),
        "verdicts": verdicts,
        "verdicts_by_direction": {
            name: dataclasses.asdict(p) for name, p in fractions(run.verdict_by_direction).items()
        },
        "median_direction_error": {name: _median(values) for name, values in error.items()},
        "median_log10_attention_gap": _median(run.log10_attention_gap[run.finite, -1]),
        "median_log10_grad_norm": _median(run.log10_grad_norm[run.finite, -1]),
        "median_norm": _median(run.norm[run.finite, -1]),
        "median_more": {name: _median(values[run.finite, -1]) for name, values in run.more_curves.items()},
        "rate": rate_of(run.rate(law)),
        "steps_to_error": {str(error): _reached(run, error) for error in ERRORS},
        "distinct_selections": len(run.selections),
        "report": {name: of_all(name, values) for name, values in run.report.items() if name not in BY_LANE},
        "converged": int(run.converged.sum()),
        "nonfinite": [{"lane": int(i), "first_recorded_step": int(run.nonfinite_step[i])} for i in bad[:NAMED]],
        "seconds": run.settings.get("seconds"),
    }


def _reached(run: Any, error: float) -> float | None:
    """The median of the steps to an error, over lanes that ended global or local; None where half of them never do."""
    steps = run.steps_to(error)[np.isin(run.verdict, SETTLED)]
    middle = float(np.median(np.where(np.isnan(steps), np.inf, steps))) if len(steps) else np.inf
    return middle if np.isfinite(middle) else None


def lane_table(run: Any) -> "pandas.DataFrame":
    """One row per lane of a `Run`: verdicts, selection, and the final values of everything recorded."""
    import pandas as pd

    columns: dict[str, Any] = {
        "lane": run.first + np.arange(run.lanes),
        "verdict": run.verdict,
        "verdict_by_direction": run.verdict_by_direction,
        "selection_number": run.selection_number,
        "limit_norm": run.limit_norm[run.selection_number],
    }
    for name in CURVES:
        columns[name] = getattr(run, name)[:, -1]
    columns |= {name: values[:, -1] for name, values in run.more_curves.items()}
    columns["start_norm"] = np.sqrt((run.start**2).sum(1) + run.outside)
    columns["nonfinite_step"] = run.nonfinite_step
    columns["converged"] = run.converged
    return pd.DataFrame(columns | run.report)


def rate_of(rate: Rate) -> dict[str, Any]:
    """A rate in plain values, and why it is none."""
    return {name: _known(value) for name, value in dataclasses.asdict(rate).items()} | {"refused": rate.refused}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _median(values: np.ndarray) -> float | None:
    sound = values[np.isfinite(values)]
    return float(np.median(sound)) if len(sound) else None

"""Runs and surveys as data sets of xarray: dimensions and coordinates have names, quantities their units."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsim.analysis import VERDICTS
from jaxsim.results.lanes import CURVES

if TYPE_CHECKING:
    import xarray

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# What each quantity is, and its unit; "1" is that of a number.
QUANTITIES = {
    "direction_error": ("distance of W/‖W‖ from its max-margin limit", "1"),
    "log10_direction_error": ("log10 of the distance of W/‖W‖ from its max-margin limit", "1"),
    "log10_attention_gap": ("log10 of the largest 1 - φ", "1"),
    "log10_grad_norm": ("log10 of ‖∇L‖", "1"),
    "log10_gap": ("log10 of L - L*", "1"),
    "norm": ("‖W‖", "1"),
    "log10_norm": ("log10 of ‖W‖", "1"),
    "logits": ("attention logits", "1"),
    "final_logits": ("attention logits at the last step", "1"),
    "coeffs": ("coefficients of W over x zᵀ", "1"),
    "selection": ("selected token of each sequence", "token"),
    "leapt_from": ("step of the first leap", "step"),
    "stuck_at": ("step at which the lane went no further", "step"),
    "single_steps": ("steps made one by one", "step"),
}
SAID = ("rule", "label", "rule_name", "init", "loss", "train", "dtype", "engine", "coordinates", "lanes", "steps")


def of_run(run: Any) -> "xarray.Dataset":
    """See `Run.to_xarray`."""
    import xarray as xr

    curves = {name: getattr(run, name) for name in CURVES} | run.more_curves
    variables: dict[str, Any] = {name: (("lane", "step"), values) for name, values in curves.items()}
    variables["selection"] = (("lane", "sequence"), run.selection)
    variables["final_logits"] = (("lane", "sequence", "token"), run.final_logits)
    for name in ("logits", "coeffs"):
        if getattr(run, name) is not None:
            variables[name] = (("lane", "step", "sequence", "token"), getattr(run, name))
    variables |= {name: ("lane", values) for name, values in run.report.items()}
    coordinates = {
        "lane": ("lane", run.first + np.arange(run.lanes)),
        "step": ("step", run.steps),
        "verdict": ("lane", run.verdict),
        "verdict_by_direction": ("lane", run.verdict_by_direction),
        "selection_number": ("lane", run.selection_number),
        "limit_norm": ("lane", run.limit_norm[run.selection_number]),
    }
    return _told(xr.Dataset(variables, coordinates), run.settings)


def of_survey(survey: Any) -> "xarray.Dataset":
    """See `Survey.to_xarray`."""
    import xarray as xr

    variables: dict[str, Any] = {
        name: (("quantile", "step"), np.stack([survey.quantile(name, q) for q in QUANTILES]))
        for name in survey.sketches
    }
    variables["count"] = (("selection", "verdict"), survey.counts)
    variables["first_saturated"] = (("verdict", "step"), survey.hitting[:, :-1])
    variables["never_saturated"] = ("verdict", survey.hitting[:, -1])
    variables["tokens"] = (("selection", "sequence"), survey.selections)
    shares = survey.fractions()
    variables["fraction"] = ("verdict", [shares[name].value for name in VERDICTS])
    variables |= {end: ("verdict", [getattr(shares[name], end) for name in VERDICTS]) for end in ("low", "high")}
    coordinates = {
        "step": ("step", survey.steps),
        "quantile": ("quantile", list(QUANTILES)),
        "verdict": ("verdict", list(VERDICTS)),
        "limit_norm": ("selection", survey.limit_norm),
        "locally_optimal": ("selection", survey.locally_optimal),
    }
    return _told(xr.Dataset(variables, coordinates), survey.settings)


def _told(found: "xarray.Dataset", settings: dict[str, Any]) -> "xarray.Dataset":
    """The same with what its quantities are, and how it was made."""
    for name in map(str, found.variables):
        if name in QUANTITIES:
            found[name].attrs = dict(zip(("long_name", "units"), QUANTITIES[name], strict=True))
    found["step"].attrs = {"long_name": "updates made", "units": "step"}
    if "lane" in found.coords:
        found["lane"].attrs = {"long_name": "index of the start"}
    found.attrs = {name: settings[name] for name in SAID if name in settings}
    return found

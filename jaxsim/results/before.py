"""Runs as earlier versions saved them."""

import os
from typing import Any

import numpy as np

from jaxsim.analysis import Thresholds
from jaxsim.train import KINDS

STARTS = ("given", "given_weights")  # settings that are arrays: the part of given starts outside the span


def mend(path: Any, fields: dict[str, Any]) -> None:
    """Add to the fields of a run what runs did not keep then: the flag `converged`, the list of curves, and others.

    Raises:
        ValueError: where its thresholds are none.
    """
    settings, more = fields.get("settings"), fields.setdefault("more", {})
    fields.setdefault("report", {})
    if isinstance(settings, dict):
        settings |= {name: fields.pop(name) for name in STARTS if name in fields}
        settings.setdefault("label", settings.get("rule"))
        settings.setdefault("predicts", "inverse-log" if settings.get("rule_name") == "gd" else "power")
        if "curves" not in settings and isinstance(more, dict):
            titles, shape = of_kinds("curves"), np.shape(fields.get("norm", ()))
            settings["curves"] = {name: titles.get(name, "") for name in more if np.shape(more[name]) == shape}
    if "norm" in fields:
        fields.setdefault("converged", np.zeros(len(fields["norm"]), bool))
    try:
        fields["thresholds"] = Thresholds(**fields.get("thresholds"))  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ValueError(f"path: expected a whole run at {os.fspath(path)!r}; thresholds: {error}") from error


def of_kinds(what: str) -> dict[str, str]:
    """What all trained things together add to a run, under `curves` or `finals`."""
    return {name: told for kind in KINDS.values() for name, told in getattr(kind, what).items()}

"""Whether the parts of a run that was read from a file fit together."""

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import jaxtyped

from jaxsim._archive.complete import has_axes

KINDS = ("dual", "primal", "full")


def check_run(path: str | os.PathLike, fields: Mapping[str, Any], finals: Mapping[str, str]) -> None:
    """Hold settings, numbers of selections and what a run keeps by name against each other.

    Args:
        path: the file, for the message.
        fields: the fields of a run.
        finals: axes of what trained things add beside curves, by name.

    Raises:
        ValueError: where they do not fit; the message names the file.
    """
    wrong = _settings(fields) or _numbers(fields) or _shapes(fields, finals)
    if wrong is not None:
        raise ValueError(f"path: expected a whole run at {os.fspath(path)!r}; {wrong}")


def _settings(fields: Mapping[str, Any]) -> str | None:
    """What is wrong with the settings that are read again."""
    settings, position = fields["settings"], fields["position"]
    n, T, _ = fields["problem"].shape
    if not isinstance(settings.get("curves"), dict):
        return f"settings.curves: expected names and headings; got {settings.get('curves')!r}"
    for name in ("rule", "rule_name"):
        if not isinstance(settings.get(name), str):
            return f"settings.{name}: expected text; got {settings.get(name)!r}"
    if settings.get("coordinates") not in KINDS:
        return f"settings.coordinates: expected one of {', '.join(KINDS)}; got {settings.get('coordinates')!r}"
    key, first, seconds = settings.get("key"), settings.get("first", 0), settings.get("seconds")
    if not isinstance(key, list) or not all(isinstance(word, int) and word >= 0 for word in key):
        return f"settings.key: expected the words of a JAX key; got {key!r}"
    if not isinstance(first, int) or first < 0:
        return f"settings.first: expected the index of a lane; got {first!r}"
    if seconds is not None and not isinstance(seconds, int | float):
        return f"settings.seconds: expected a number; got {seconds!r}"
    size = {"dual": n * T, "primal": settings.get("rank"), "full": math.prod(fields["problem"].W_shape)}
    wanted, came = size[settings["coordinates"]], position.shape[1]
    if came != wanted:
        return f"position: expected {wanted} coordinates, as the settings say; got {came}"
    return None


def _numbers(fields: Mapping[str, Any]) -> str | None:
    """What is wrong with the table of selections and the steps."""
    number, selections, T = fields["selection_number"], fields["selections"], fields["problem"].shape[1]
    if not len(fields["steps"]) or np.any(np.diff(fields["steps"], prepend=-1) <= 0):
        return "steps: expected at least one, ascending"
    if not len(number) or number.min() < 0 or number.max() >= len(selections):
        return f"selection_number: expected lanes with numbers from 0 to {len(selections) - 1}"
    if selections.min() < 0 or selections.max() >= T:
        return f"selections: expected tokens from 0 to {T - 1}"
    status = fields["limit_status"]
    if status.shape != (len(selections),) or status.dtype.kind != "U":
        return f"limit_status: expected {len(selections)} words; got {status.dtype} of shape {status.shape}"
    return None


def _shapes(fields: Mapping[str, Any], finals: Mapping[str, str]) -> str | None:
    """What is wrong with arrays that are kept by name."""
    problem = fields["problem"]
    starts = {"given": "k d e", "given_weights": "all k"}
    named = [("report", name, value, "lanes") for name, value in fields["report"].items()]
    known = dict(finals) | dict.fromkeys(fields["settings"]["curves"], "lanes R")
    named += [("more", name, value, known.get(name, "lanes ...")) for name, value in fields["more"].items()]
    named += [("settings", name, fields["settings"][name], axes) for name, axes in starts.items()
              if name in fields["settings"]]  # fmt: skip
    with jaxtyped("context"):
        has_axes(fields["norm"], "lanes R")  # which gives them their lengths
        has_axes(problem.scores, "n T")
        has_axes(np.broadcast_to(0.0, problem.W_shape), "d e")
        for group, name, value, axes in named:
            if not has_axes(value, axes):
                came = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
                return f"{group}.{name}: expected numbers of shape ({axes}); got {came[:60]}"
    return None

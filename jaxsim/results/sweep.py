"""Runs at every point of a grid of numbers, with the numbers as coordinates."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsim.analysis import VERDICTS
from jaxsim.analysis.intervals import median_bounds
from jaxsim.results import drawing
from jaxsim.results.run import Run

if TYPE_CHECKING:
    import pandas
    import xarray


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """What `sweep` returns.

    Attributes:
        axes: the values of every number that was swept, by its name; one that rule and law share is the rule's, and
            the law's is called `init_…`.
        of_rule: how many of the axes are the rule's; they come first.
        runs: the run at every point, the last axis fastest.
    """

    axes: dict[str, tuple[float, ...]]
    of_rule: int
    runs: tuple[Run, ...]

    @staticmethod
    def of(swept: Mapping[str, Mapping[str, tuple[float, ...]]], runs: Sequence[Run], seconds: float) -> "Sweep":
        """From the axes of rule and law, and the runs, whose share of the time is `seconds` each."""
        rule, init = swept["rule"], swept["init"]
        axes = dict(rule) | {f"init_{name}" if name in rule else name: values for name, values in init.items()}
        return Sweep(axes, len(rule), tuple(
            dataclasses.replace(run, settings=run.settings | {"seconds": seconds}) for run in runs
        ))  # fmt: skip

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values every axis has."""
        return tuple([len(values) for values in self.axes.values()])

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def points(self) -> list[dict[str, float]]:
        """The numbers of every run, in order."""
        return [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]

    def at(self, **values: float) -> Run:
        """The run at one point: a value of every axis that has more than one, up to rounding.

        Raises:
            ValueError: where an axis is missing or unknown, or has no such value.
        """
        at = []
        for name in values:
            if name not in self.axes:
                raise ValueError(f"{name}: expected one of {', '.join(self.axes)}")
        for name, known in self.axes.items():
            if name not in values and len(known) > 1:
                raise ValueError(f"{name}: expected a value, one of {_few(known)}")
            wanted = values[name] if name in values else next(iter(known))
            near = [k for k, value in enumerate(known) if math.isclose(value, wanted, rel_tol=1e-9)]
            if not near:
                raise ValueError(f"{name}: expected one of {_few(known)}; got {wanted!r}")
            at.append(near[0])
        return self.runs[int(np.ravel_multi_index(at, self.shape))]

    def fractions(self, level: float = 0.95) -> "xarray.Dataset":
        """Fractions of lanes by verdict, with Wilson intervals, as `jaxsim.plot.fractions` draws them.

        Dimensions are problem (one), init, rule and verdict, as of studies; the numbers that were swept are coordinates
        `rule_eta`, `init_radius` and so on.
        """
        import xarray as xr

        rules = math.prod(self.shape[: self.of_rule])
        shape = (1, len(self) // rules, rules)
        found = [run.fractions(level) for run in self.runs]
        kinds = {"count": "count", "fraction": "value", "low": "low", "high": "high"}
        values: dict[str, Any] = {}
        for name, attribute in kinds.items():
            table = np.array([[getattr(each[v], attribute) for v in VERDICTS] for each in found])
            table = table.reshape(rules, shape[1], len(VERDICTS)).transpose(1, 0, 2)[None]
            values[name] = (("problem", "init", "rule", "verdict"), table)
        values["lanes"] = (("problem", "init", "rule"), np.full(shape, self.runs[0].lanes))
        one = self.runs[0]
        starts, by = self.runs[: shape[1]], self.runs[:: shape[1]]
        coordinates: dict[str, Any] = {
            "verdict": list(VERDICTS),
            "problem": ["n={}, T={}, d={}".format(*one.problem.shape)],
            "init": [run.settings["init"] for run in starts],
            "rule": [run.label for run in by],
            "rule_kind": ("rule", [run.settings["rule_name"] for run in by]),
            "init_kind": ("init", [run.settings["init"].partition("(")[0] for run in starts]),
            "problem_kind": ("problem", ["problem"]),
        }
        points = self.points()
        for k, name in enumerate(self.axes):
            part, of = ("rule", points[:: shape[1]]) if k < self.of_rule else ("init", points[: shape[1]])
            coordinates[self._coordinate(name)] = (part, np.array([point[name] for point in of]))
        return xr.Dataset(values, coordinates, {"interval": "wilson", "level": level})

    def to_pandas(self) -> "pandas.DataFrame":
        """One row per point: its numbers, lanes, the fraction of every verdict, and the median direction error."""
        import pandas as pd

        rows = []
        for point, run in zip(self.points(), self.runs, strict=True):
            shares = {name: share.value for name, share in run.fractions().items()}
            known = run.direction_error[:, -1][np.isfinite(run.direction_error[:, -1])]
            rows.append(
                point | {"lanes": run.lanes} | shares
                | {"direction_error": float(np.median(known)) if len(known) else np.nan}
            )  # fmt: skip
        return pd.DataFrame(rows)

    def medians(self, *names: str) -> "pandas.DataFrame":
        """One row per point: its numbers, and the median over lanes of what they have at the last step.

        Args:
            *names: columns of `Run.to_pandas`, such as "norm"; each has two more, `…_low` and `…_high`, the 95%
                interval of the median; NaN with fewer than six lanes.

        Raises:
            ValueError: where there is no such column.
        """
        import pandas as pd

        rows = []
        for point, run in zip(self.points(), self.runs, strict=True):
            lanes, row = run.to_pandas(), dict(point)
            for name in names:
                if name not in lanes:
                    raise ValueError(f"names: expected columns of Run.to_pandas, {', '.join(lanes)}; got {name!r}")
                known = lanes[name].to_numpy(float)
                known = known[np.isfinite(known)]
                low, high = median_bounds(known) if len(known) else (np.nan, np.nan)
                middle = float(np.median(known)) if len(known) else np.nan
                row |= {name: middle, f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
        return pd.DataFrame(rows)

    def to_xarray(self) -> "xarray.Dataset":
        """Every lane at every recorded step and point: `Run.to_xarray` with the axes as dimensions."""
        import xarray as xr

        found = [run.to_xarray() for run in self.runs]
        shared = [
            name for name in found[0].attrs if all(each.attrs.get(name) == found[0].attrs[name] for each in found)
        ]
        for name, values in reversed(self.axes.items()):
            along = xr.DataArray(list(values), dims=name, name=name)
            groups = [found[k : k + len(values)] for k in range(0, len(found), len(values))]
            found = [
                xr.concat(each, along, coords=PER_LANE, data_vars="all", compat="equals", combine_attrs="drop")
                for each in groups
            ]
        return found[0].assign_attrs({name: self.runs[0].settings[name] for name in shared})

    def plot(self, against: str | Sequence[str] | None = None, **how: Any) -> Any:
        """The fraction of a verdict against one or two of the axes; see `jaxsim.plot.fractions`."""
        names = against.split(",") if isinstance(against, str) else list(against or self.axes)[:2]
        return drawing.draw(self, [self._coordinate(name.strip()) for name in names], **how)

    def _coordinate(self, name: str) -> str:
        """What `fractions` calls an axis."""
        if name not in self.axes:
            raise ValueError(f"against: expected one or two of {', '.join(self.axes)}; got {name!r}")
        of_rule = list(self.axes).index(name) < self.of_rule
        return f"rule_{name}" if of_rule else f"init_{name.removeprefix('init_')}"

    def __repr__(self):
        swept = ", ".join(f"{name} {_few(values)}" for name, values in self.axes.items())
        return f"Sweep of {swept}\n  {len(self)} points of {self.runs[0].lanes:,} lanes\n  {self.runs[0]!r}"


PER_LANE = ["verdict", "verdict_by_direction", "selection_number", "limit_norm"]  # coordinates that differ by point


def _few(values: Sequence[float]) -> str:
    """Values in a line."""
    shown = [f"{value:g}" for value in values]
    return ", ".join(shown if len(shown) < 9 else [*shown[:4], "…", shown[-1]])

"""Reading a study: fractions with intervals by cell, one cell's lanes, and a lazy table of everything."""

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
from jaxtyping import Bool, Int

from jaxsim.analysis import BOUNDS, VERDICTS
from jaxsim.driver import LARGEST_STEP
from jaxsim.problem import Problem
from jaxsim.study import cells, manifest, stopping
from jaxsim.study.choices import build_problem
from jaxsim.study.folder import problem_of
from jaxsim.study.manifest import Record
from jaxsim.study.running import damage
from jaxsim.study.spec import Study
from jaxsim.study.toml import recorded
from jaxsim.study.views import by_lane, coordinates

if TYPE_CHECKING:
    import pandas
    import pyarrow.dataset
    import xarray

Damaged = Literal["refuse", "leave out"]


class Reader:
    """The folder of a study. Everything is taken from the manifest as it was when the reader was made.

    Attributes:
        folder: where the study lies.
        study: what it was asked to do.
        records: the manifest's shards by (cell, shard).
        sessions: when and in which environment it was worked on.
    """

    def __init__(self, path: str | os.PathLike):
        self.folder = Path(path)
        found = manifest.read(self.folder)
        self.study: Study = recorded(found, self.folder)
        self.records, self.sessions, self._otherwise = found.shards, found.sessions, found.damaged
        self._astray = found.astray

    def __repr__(self):
        done = self.cells_done
        return f"Study({self.study.name!r}, {done} of {self.count} cells done, {self.counts.sum():,} lanes)"

    @property
    def count(self) -> int:
        """Number of cells."""
        return cells.count(self.study)

    @functools.cached_property
    def counts(self) -> Int[np.ndarray, "cells 6"]:
        """Lanes by cell and verdict, verdicts in the order of `jaxsim.analysis.VERDICTS`.

        A shard whose file is damaged counts, because the manifest knows what it came to; one whose row in the manifest
        is damaged does not.
        """
        totals = np.zeros((self.count, len(VERDICTS)), np.int64)
        for record in self.records.values():
            if record.counts:
                totals[record.cell] += record.counts
        return totals

    @functools.cached_property
    def done(self) -> np.ndarray:
        """Which cells have all the lanes that the stopping rule asks for, (cells,)."""
        known: dict[int, dict[int, tuple[int, ...]]] = {}
        for record in self.records.values():
            if record.counts:
                known.setdefault(record.cell, {})[record.shard] = record.counts
        cells_done = [known.get(cell, {}) for cell in range(self.count)]
        wanted = stopping.targets(self.study, cells_done)
        return np.array([all(k in shards for k in range(n)) for shards, n in zip(cells_done, wanted, strict=True)])

    @property
    def cells_done(self) -> int:
        """How many cells are done."""
        return int(self.done.sum())

    @functools.cached_property
    def damaged(self) -> dict[str, str]:
        """What is not as it was written, and why.

        Files that are missing, have another size than recorded, or failed `verify`; and rows of the manifest whose
        checksum does not fit.
        """
        found = ((r.file or "", damage(self.folder, r)) for r in self.records.values() if r.state != "failed")
        return {name: why for name, why in found if why is not None} | self._otherwise

    @property
    def failed(self) -> dict[int, str]:
        """Cells that could not be computed, and why."""
        return {r.cell: r.message or "" for r in self.records.values() if r.state == "failed"}

    def fractions(self, interval: Literal["anytime", "wilson"] | None = None) -> "xarray.Dataset":
        """Fractions of lanes by verdict, with intervals, for every cell.

        Args:
            interval: "anytime", valid whenever and for whatever reason the study was stopped or extended; or
                "wilson", narrower, valid for a number of lanes fixed beforehand. By default the one that the
                study's stopping rule allows.

        Returns:
            A Dataset with dimensions problem, init, rule and verdict: `count`, `lanes`, `fraction`, `low`, `high` and
            `done`. The numbers of each choice (n, radius, eta, …) are coordinates. Where nothing has run, fractions
            are NaN. The fraction of a plane is the share of its pixels, which are no random draws: it has no interval.
        """
        import xarray as xr

        kind = interval or self.study.stop.interval
        if kind not in BOUNDS:
            raise ValueError(f"interval: expected {' or '.join(BOUNDS)}; got {interval!r}")
        lanes = self.counts.sum(1)
        count, total = self.counts, np.maximum(lanes, 1)[:, None]
        low, high = BOUNDS[kind](count, total, self.study.stop.level)
        none, grid = (lanes == 0)[:, None], self._grid[:, None]
        choices = {"problem": self.study.problems, "init": self.study.inits, "rule": self.study.rules}
        sizes = [len(chosen) for chosen in choices.values()]
        dims = tuple(choices)

        def per_verdict(values: np.ndarray) -> tuple[Any, np.ndarray]:
            return (*dims, "verdict"), values.reshape(*sizes, len(VERDICTS))

        return xr.Dataset(
            {
                "count": per_verdict(count),
                "fraction": per_verdict(np.where(none, np.nan, count / total)),
                "low": per_verdict(np.where(none | grid, np.nan, low)),
                "high": per_verdict(np.where(none | grid, np.nan, high)),
                "lanes": (dims, lanes.reshape(sizes)),
                "done": (dims, self.done.reshape(sizes)),
            },
            coordinates(choices) | {"verdict": list(VERDICTS)},
            {"interval": kind, "level": self.study.stop.level, "study": self.study.hash},
        )

    @property
    def _grid(self) -> Bool[np.ndarray, " cells"]:
        """Where starts lie on a grid and are not drawn."""
        of_init = np.array([init.pixels is not None for init in self.study.inits])
        return np.tile(np.repeat(of_init, len(self.study.rules)), len(self.study.problems))

    def problem(self, cell: int) -> Problem:
        """The problem of a cell."""
        return build_problem(self.cell(cell).problem, self.files())

    def files(self) -> dict[str, bytes]:
        """Contents of the study's problem files, by fingerprint."""
        kinds = [entry.fingerprint for entry in self.study.problem if entry.family == "file"]
        found = {}
        for name in kinds:
            path = problem_of(self.folder, name)
            try:
                found[name] = path.read_bytes()
            except OSError as error:
                raise ValueError(f"study: {os.fspath(path)!r} cannot be read ({error.strerror})") from error
        return found

    def cell(self, index: int) -> cells.Cell:
        """The cell with this number; ValueError where there is none."""
        if not 0 <= index < self.count:
            raise ValueError(f"cell: expected 0 to {self.count - 1}; got {index}")
        return cells.cell_at(self.study, index)

    def watched(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The fraction that the stopping rule watches, and the ends of its interval, (cells,) each; NaN for planes."""
        count, lanes = self.counts[:, VERDICTS.index(self.study.stop.verdict)], self.counts.sum(1)
        low, high = BOUNDS[self.study.stop.interval](count, np.maximum(lanes, 1), self.study.stop.level)
        none = lanes == 0
        low, high = (np.where(self._grid, np.nan, np.where(none, k, end)) for k, end in enumerate((low, high)))
        return count / np.maximum(lanes, 1), low, high

    def cells(self) -> "pandas.DataFrame":
        """One row per cell: its number, the kinds and numbers of problem, law and rule, and how many lanes it has."""
        import pandas as pd

        rows = []
        for cell in cells.cells(self.study):
            row: dict[str, Any] = {"cell": cell.index}
            for part, choice in (("problem", cell.problem), ("init", cell.init), ("rule", cell.rule)):
                row |= {part: choice.kind} | {f"{part}.{k}": v for k, v in choice.shown().items()}
            rows.append(row)
        frame = pd.DataFrame(rows)
        for name in frame.columns[1:]:  # where some are schedules, told in words, all are
            if {str} < {type(value) for value in frame[name] if value == value}:
                frame[name] = frame[name].map(str, na_action="ignore")
        frame["lanes"], frame["done"] = self.counts.sum(1), self.done
        return frame

    def table(self, cell: int | None = None, *, damaged: Damaged = "refuse") -> "pyarrow.dataset.Dataset":
        """All lanes, or those of one cell, as a lazy table: nothing is read before it is asked for.

        Filter and read it with pyarrow, `table.to_table(columns=["cell", "verdict"])`, or pass batches on with
        `table.to_batches()`; the column `cell` is the number that `cells` explains. Rows come by cell and lane.

        Args:
            cell: one cell's number; all by default.
            damaged: "leave out" to go on without damaged files; by default they are an error.

        Raises:
            ValueError: where files are damaged or missing, with their names; or there is no such cell.
        """
        import pyarrow.dataset as ds

        chosen, wrong = self._chosen(cell)
        if wrong and damaged != "leave out":
            self._refuse(wrong, len(chosen))
        paths = [os.fspath(self.folder / str(r.file)) for r in chosen if r.file not in wrong]
        return ds.dataset(paths, schema=self.schema, format="parquet")

    def shards(self, cell: int | None = None, *, damaged: Damaged = "refuse") -> "Iterator[pyarrow.Table]":
        """The rows of `table`, shard by shard, read and compared with their recorded hash.

        Args:
            cell: as for `table`.
            damaged: as for `table`.

        Raises:
            ValueError: as `table`, and where the bytes of a file are not those that were recorded.
        """
        chosen, wrong = self._chosen(cell)
        if wrong and damaged != "leave out":
            self._refuse(wrong, len(chosen))
        for record in chosen:
            if record.file in wrong:
                continue
            content = (self.folder / str(record.file)).read_bytes()
            if hashlib.sha256(content).hexdigest() == record.sha256:
                yield self._rows(content)
            elif damaged != "leave out":
                self._refuse({str(record.file)}, len(chosen))

    def _rows(self, content: bytes) -> "pyarrow.Table":
        """A shard's rows with the columns that all shards of the study have together."""
        import pyarrow as pa

        from jaxsim.study.shards import table_of

        found = table_of(content)
        empty = {f.name: pa.nulls(len(found), f.type) for f in self.schema if f.name not in found.column_names}
        return pa.table({f.name: empty.get(f.name) or found[f.name] for f in self.schema}, schema=self.schema)

    def _chosen(self, cell: int | None) -> tuple[list[Record], set[str]]:
        """Shards of one cell or all, and the files of those that are damaged, or rows that may have been of them."""
        if cell is not None:
            self.cell(cell)
        chosen = [r for r in self.records.values() if r.state != "failed" and cell in (None, r.cell)]
        return chosen, {str(r.file) for r in chosen if r.file in self.damaged} | self._astray

    def _refuse(self, wrong: set[str], count: int) -> NoReturn:
        names = ", ".join(sorted(wrong)[:3]) + (" …" if len(wrong) > 3 else "")
        raise ValueError(
            f"table: {len(wrong)} of {count} shards are damaged: {names}. "
            "Repair them with `jaxsim study run STUDY.toml --out DIR --repair`, or leave them out: --leave-out, "
            "in Python damaged='leave out'."
        )

    @functools.cached_property
    def schema(self) -> Any:
        """The columns of the table; rules add their diagnostics."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from jaxsim.study.shards import schema

        found = {}
        for record in self.records.values():
            rule = self.study.rules[record.cell % len(self.study.rules)]
            if rule not in found and record.state != "failed" and record.file not in self.damaged:
                found[rule] = pq.read_schema(self.folder / str(record.file))
        recorded = len(self.study.record) if len(self.study.record) > 1 else 0
        return pa.unify_schemas([schema(recorded, (), far=self.study.steps > LARGEST_STEP), *found.values()])

    def lanes(self, cell: int, *, damaged: Damaged = "refuse") -> "xarray.Dataset":
        """The lanes of one cell, by lane and recorded step, with the fractions of the cell and their intervals.

        Args:
            cell: its number.
            damaged: as for `table`.

        Returns:
            A Dataset with dimensions lane, verdict_name and, where more than the last step is recorded, step.
        """
        import pyarrow as pa

        table = pa.concat_tables([self.schema.empty_table(), *self.shards(cell, damaged=damaged)])
        return by_lane(table, self.study, cell, self._fractions_of(cell))

    def _fractions_of(self, cell: int) -> "xarray.Dataset":
        rest, rule = divmod(cell, len(self.study.rules))
        problem, init = divmod(rest, len(self.study.inits))
        return self.fractions().isel(problem=problem, init=init, rule=rule)

"""One shard: some lanes of one cell, as the bytes of a Parquet file. A pure function of study, cell and index."""

import collections
import dataclasses
import functools
import hashlib
import io
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import threadpoolctl

from jaxsim import rules
from jaxsim.analysis import VERDICTS
from jaxsim.driver import LARGEST_STEP
from jaxsim.results import CURVES, Run
from jaxsim.simulation.together import together
from jaxsim.simulation.work import Work, prepare
from jaxsim.study.cells import Cell, cell_at, key_of
from jaxsim.study.choices import build_init, build_problem, build_rule, build_train
from jaxsim.study.spec import Study

KEPT_WORKS = 16  # problems whose frames and limits a process remembers
STEPS = ("leapt_from", "stuck_at")  # of a report, which float32 would round
KEPT_SELECTIONS = 4096  # of one problem; beyond that it starts afresh


@dataclasses.dataclass(frozen=True)
class Shard:
    """What a shard came to: the bytes of its file, their sha256, and lanes by verdict in the order of VERDICTS."""

    content: bytes
    sha256: str
    counts: tuple[int, ...]


class Workshop:
    """Computes the shards of one study, remembering what shards of one problem share."""

    def __init__(self, study: Study, files: Mapping[str, bytes]):
        study.hold_sources()
        self.study, self.files = study, dict(files)
        self._train = build_train(study.train, study.batch, study.seed)
        self._works: collections.OrderedDict[Any, Work] = collections.OrderedDict()
        self._threads = threadpoolctl.ThreadpoolController()

    def shard(self, cell: int, index: int) -> Shard:
        """Lanes index · shard … of a cell."""
        return next(self.shards([(cell, index)]))

    def shards(self, tasks: Sequence[tuple[int, int]]) -> Iterator[Shard]:
        """Those of several cells that go `together`, side by side; each is what it would be alone.

        One BLAS thread and the precision that the study names, whatever the process is set to, so that bytes do not
        depend on where they are computed.
        """
        with x64(self.study.dtype == "float64"), self._threads.limit(limits=1, user_api="blas"):
            works = [self._work(cell_at(self.study, cell), index) for cell, index in tasks]
            for (cell, _), run in zip(tasks, together(works, own_blocks=True), strict=True):
                yield _pack(run, cell, self.study.limits)

    def kind(self, cell: int) -> Hashable:
        """The same for cells that go together: those that differ in the law's numbers, or in those of our own rules.

        A rule from outside may not take numbers per lane.
        """
        chosen = cell_at(self.study, cell)
        rule = build_rule(chosen.rule)
        own = type(rule).__module__.startswith("jaxsim.rules.") and not isinstance(rule, rules.PerBlock)
        return chosen.problem, jax.tree.structure(rule) if own else chosen.rule

    def _work(self, cell: Cell, index: int) -> Work:
        study = self.study
        rule, first = build_rule(cell.rule), index * study.shard
        name = (cell.problem, rule.coordinates)
        work = self._works.pop(name, None)
        problem = build_problem(cell.problem, self.files) if work is None else work.problem
        init = build_init(cell.init, problem)
        if work is None or len(work.limits.solutions) > KEPT_SELECTIONS:
            key, how = key_of(study, cell), study.options()
            work = prepare(problem, rule, init, how, key=key, lanes=study.shard, train=self._train)
        self._works[name] = work
        while len(self._works) > KEPT_WORKS:
            self._works.popitem(last=False)
        return work.again(rule, init, key_of(study, cell), first)


@functools.cache
def schema(record: int, report: tuple[str, ...], more: tuple[str, ...] = (), far: bool = False) -> Any:
    """The columns of a shard, in the narrowest types that keep what matters.

    Args:
        record: recorded steps kept, 0 for the last alone.
        report: the rule's diagnostics.
        more: curves of what is trained besides W.
        far: whether step numbers are beyond 32 bits.
    """
    import pyarrow as pa

    fields = [pa.field("cell", pa.uint32()), pa.field("lane", pa.uint32())]
    verdict = pa.dictionary(pa.int8(), pa.string())
    fields += [pa.field("verdict", verdict), pa.field("verdict_by_direction", verdict)]
    fields += [pa.field("selection", pa.list_(pa.uint16())), pa.field("limit_norm", pa.float32())]
    fields += [pa.field(name, pa.float32()) for name in (*CURVES, "start_norm")]
    step = pa.float64() if far else pa.int32()
    fields += [pa.field("nonfinite_step", step), pa.field("settled_step", step)]
    fields += [pa.field(name, pa.float32()) for name in more]
    if record:
        fields += [pa.field(f"{name}_recorded", pa.list_(pa.float32(), record)) for name in (*CURVES, *more)]
    fields += [pa.field(name, pa.float64() if name in STEPS else pa.float32()) for name in report]
    return pa.schema(fields)


def _pack(run: Run, cell: int, limits: str) -> Shard:
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = run.to_pandas()
    if limits == "saturated":
        # What is known of the limit of a lane that is still open depends on the lanes that were run before it.
        open_ = ~run.saturated[:, -1]
        frame.loc[open_, "limit_norm"] = np.nan
        frame.loc[open_ & run.finite, list(_VERDICT_COLUMNS)] = "unresolved"
    recorded = len(run.steps) if len(run.steps) > 1 else 0
    codes = {name: np.array([VERDICTS.index(v) for v in frame[name]], np.int8) for name in _VERDICT_COLUMNS}
    values: dict[str, Any] = {name: frame[name].to_numpy() for name in frame.columns if name not in codes}
    values |= {"cell": np.full(run.lanes, cell), "settled_step": run.settled_step}
    more = _curves(run)
    values |= {name: curve[:, -1] for name, curve in more.items()}
    with np.errstate(over="ignore"):  # beyond float32: inf, as a plot would show it
        arrays = []
        made = schema(recorded, tuple(sorted(run.report)), tuple(more), run.steps[-1] > LARGEST_STEP)
        for field in made:
            if field.name in codes:
                arrays.append(pa.DictionaryArray.from_arrays(codes[field.name], list(VERDICTS)))
            elif field.name == "selection":  # of as many sequences as the problem has
                ends = np.arange(run.lanes + 1, dtype=np.int32) * run.selection.shape[1]
                arrays.append(pa.ListArray.from_arrays(ends, run.selection.ravel().astype(np.uint16)))
            elif field.name.endswith("_recorded"):
                name = field.name.removesuffix("_recorded")
                flat = (more[name] if name in more else getattr(run, name)).ravel().astype(np.float32)
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, recorded))
            else:
                arrays.append(pa.array(values[field.name].astype(field.type.to_pandas_dtype())))
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=made), sink, compression="zstd")
    content = sink.getvalue()
    counts = np.bincount(codes["verdict"], minlength=len(VERDICTS))
    return Shard(content, hashlib.sha256(content).hexdigest(), tuple(int(c) for c in counts))


def _curves(run: Run) -> dict[str, Any]:
    """What training more than W adds: one number per lane and recorded step."""
    return dict(sorted(run.more_curves.items()))


def counts_of(content: bytes) -> tuple[int, ...] | None:
    """Lanes by verdict, in the order of VERDICTS, of the bytes of a shard's file; None where they are no such file."""
    import pyarrow as pa

    try:
        verdicts = table_of(content, columns=["verdict"])["verdict"].to_pylist()
    except (pa.ArrowException, OSError, KeyError):
        return None
    found = collections.Counter(verdicts)
    return tuple(found[name] for name in VERDICTS)


def table_of(content: bytes, columns: list[str] | None = None) -> Any:
    """The table that the bytes of a shard's file hold, read without threads.

    A thread that still holds the bytes when Python ends would end the process by SIGABRT (apache/arrow #34314).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(content), columns=columns, use_threads=False, pre_buffer=False)


_VERDICT_COLUMNS = ("verdict", "verdict_by_direction")


def x64(enabled: bool) -> Any:
    """JAX with 64 bits switched on or off, for a while."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(enabled)
    from jax import experimental

    return experimental.enable_x64(enabled)  # type: ignore[attr-defined]  # before jax 0.8

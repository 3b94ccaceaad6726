"""What `jaxsim study run` shows while it works, and how it ends when it is interrupted."""

import time
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from jaxsim._text import marked, printable
from jaxsim.cli.console import Console
from jaxsim.cli.table import _count

INTERRUPTED = 130  # exit code
PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal


class Live:
    """A live line on a terminal, plain lines elsewhere."""

    def __init__(self, study: Any):
        self.study, self.state, self._last = study, None, 0.0
        self.console = Console(stderr=True)
        self._bar: Progress | None = None
        if self.console.is_terminal:
            text = TextColumn(
                "{task.fields[what]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            )
            columns = (BarColumn(bar_width=10), MofNCompleteColumn(), TextColumn("cells"), TimeElapsedColumn(), text)
            self._bar = Progress(*columns, console=self.console, transient=True, expand=True)
            self._task = self._bar.add_task("", total=None, what="starting")
            self._bar.start()

    def line(self, text: str) -> None:
        """Something worth telling."""
        self.console.print(marked(text), highlight=False, soft_wrap=True)

    def progress(self, state: Any) -> None:
        """Where the study stands, at most a few times a second."""
        self.state = state
        now, every = time.monotonic(), 0.2 if self._bar else PLAIN_EVERY
        if now - self._last < every:
            return
        self._last = now
        if self._bar is None:
            self.line(f"{state.cells_done:,} of {state.cells:,} cells done, {_text(self.study, state)}")
        else:
            self._bar.update(
                self._task, completed=state.cells_done, total=state.cells, what=printable(_text(self.study, state))
            )

    def farewell(self, _: int) -> tuple[str, int]:
        """What an interruption ends with: a shard in flight is abandoned, because waiting for it could take long."""
        made = _count(self.state.new_shards if self.state else 0, "new shard")
        return f"interrupted after {made}; the same command goes on", INTERRUPTED

    def stop(self) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar.stop()


def _text(study: Any, state: Any) -> str:
    """Lanes, their rate, the time left, and the fraction of the cell that was last worked on."""
    from jaxsim.study import cells, stopping

    parts = [f"{state.lanes:,} lanes"]
    if state.new_lanes and state.seconds > 0:
        rate = state.new_lanes / state.seconds
        parts += [f"{rate:,.0f} lanes/s", f"about {duration(state.lanes_left / rate)} left"]
    if state.retries:
        parts.append(f"{state.retries} retries")
    if state.last is not None and state.last_counts:
        cell, (low, high) = cells.cell_at(study, state.last), stopping.interval(study, state.last_counts)
        share = stopping.watched(study, state.last_counts) / sum(state.last_counts)
        ends = f" [{low:.3f}, {high:.3f}]" if cell.init.pixels is None else ""
        parts.append(f"{cell.label}: {study.stop.verdict} {share:.3f}{ends}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds in the largest unit of which there are two."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def say(text: str) -> None:
    """A line on stderr; markup counts."""
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)

"""A bar for long work, on a terminal or in a notebook: how much is done, how fast, and for how long still."""

from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Speed(ProgressColumn):
    """How many are done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """See rich."""
        speed = task.finished_speed or task.speed
        digits = 0 if speed is None or speed >= 10 else 2
        return Text("" if speed is None else f"{speed:,.{digits}f} {self.unit}/s")


def drawn_on(console: Console, unit: str, transient: bool) -> Progress:
    """A bar of rich: what is done of how many, per second, since when, and for how long still."""
    counted = TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + unit)
    columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), counted, Speed(unit)
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=transient)


def bar(unit: str = "lanes", title: str = "") -> Callable[[int, int], None]:
    """A bar to be given as `progress` to `simulate`, `survey`, `simulate_many`, maps and shells, one for each call.

    It moves after each chunk of lanes: the smaller `chunk_lanes`, the more often. Results are the same.

    Args:
        unit: what is counted.
        title: before the bar.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
        >>> run = jaxsim.simulate(
        ...     problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(0.1), key=jax.random.key(1), lanes=8, steps=100,
        ...     progress=jaxsim.bar(),
        ... )  # doctest: +SKIP
    """
    shown = drawn_on(Console(stderr=True), unit, transient=False)
    task = shown.add_task(title, total=1)

    def progress(done: int, total: int) -> None:
        shown.update(task, completed=done, total=total)
        shown.start()
        if done >= total:
            shown.stop()

    return progress

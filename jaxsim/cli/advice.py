"""What to try next: a line for each rule of `jaxsim run` under which most lanes of a problem are still open."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxsim._text import counted
from jaxsim.cli.options import Asked
from jaxsim.driver import LARGEST_STEP
from jaxsim.results import Run
from jaxsim.simulation.stepping import why_stepped

MANY = 0.5  # share of lanes
FAR = 10**12  # steps, where lanes leap
LONGER = 10  # times, where every step is made


def advice(
    texts: Sequence[str], rules: Sequence[Asked], groups: Mapping[str, Sequence[Run]], trained: Mapping[str, Any]
) -> Iterator[str]:
    """Lines to print; none for a rule that was asked for once more to a longer horizon.

    Args:
        texts: the rules as they were written.
        rules: what they are.
        groups: the runs of every problem, one for each rule.
        trained: what was trained on every problem.
    """
    for k, (text, asked) in enumerate(zip(texts, rules, strict=True)):
        written = text.partition("@")[0]
        longest = max(o.steps for t, o in zip(texts, rules, strict=True) if t.partition("@")[0] == written)
        share, name = max((float(runs[k].open.mean()), name) for name, runs in groups.items())
        if share < MANY or asked.steps < longest:
            continue
        if why_stepped(asked.rule, trained[name]) is None:
            further = f"--rule {written}@{FAR:.0e}".replace("e+", "e") if asked.steps < FAR else None
        else:
            further = f"--steps {LONGER * asked.steps}" if LONGER * asked.steps <= LARGEST_STEP else None
        if further is not None:
            open_lanes = f"{100 * share:.0f}% of lanes transient or unresolved at {counted(asked.steps)} steps"
            yield f"{text}: {open_lanes} ({name}); follow them with {further}"

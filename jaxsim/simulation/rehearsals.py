"""Programs that are compiled before they are needed, while others run."""

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jaxsim.results import Run
from jaxsim.simulation.options import OptionKeywords, Options
from jaxsim.simulation.work import prepare

LARGEST = 2**26  # bytes of the records of a chunk: where they are more, compiling is a small part of all
OPTIONS = OptionKeywords.__annotations__.keys() | {"steps"}


def rehearsed(calls: Sequence["functools.partial[Run]"]) -> Iterator["functools.partial[Run]"]:
    """Calls of `simulate`, one after another, each when its programs are compiled.

    While the caller makes one call, a thread compiles for the next ones. What is wrong with a call is said by the call.

    Args:
        calls: what is to be called, such as `functools.partial(jaxsim.simulate, problem, rule, init, key=key, …)`.
    """
    thread = ThreadPoolExecutor(1)
    ready = [thread.submit(_rehearse, *call.args, **call.keywords) for call in calls]
    try:
        for call, done in zip(calls, ready, strict=True):
            done.exception()  # waits
            yield call
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


def _rehearse(problem: Any, rule: Any, init: Any, *, key: Any, lanes: int, **options: Any) -> None:
    """Run the first chunk of one call without a step."""
    own = {name: options.pop(name) for name in ("train", "first") if name in options}
    chosen = Options(**{name: value for name, value in options.items() if name in OPTIONS})
    work = prepare(problem, rule, init, chosen, key=key, lanes=lanes, **own)
    at_once = work.plan.blocks * work.plan.width * len(chosen.recorded) * work.frame.size
    if options.get("until") is None and at_once * chosen.dtype.itemsize <= LARGEST:
        next(work.chunks(rehearsal=True))

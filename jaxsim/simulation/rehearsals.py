"""Programs that are compiled before they are needed, while others run."""

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from jaxsim.results import Run
from jaxsim.simulation.options import OptionKeywords, Options
from jaxsim.simulation.work import Work, prepare

LARGEST = 2**26  # bytes of the records of a chunk: where they are more, compiling is a small part of all
OPTIONS = OptionKeywords.__annotations__.keys() | {"steps"}


def rehearsed(calls: Sequence["functools.partial[Run]"]) -> Iterator["functools.partial[Run]"]:
    """Calls of `simulate`, one after another, each when its programs are compiled.

    While the caller makes one call, a thread compiles for the next: it runs the first chunk of its lanes without a
    step. What is wrong with a call is said by the call itself.

    Args:
        calls: what is to be called, such as `functools.partial(jaxsim.simulate, problem, rule, init, key=key, …)`.
    """
    thread = ThreadPoolExecutor(1)

    def begun(call: "functools.partial[Run]") -> Future:
        return thread.submit(_rehearse, _work(*call.args, **call.keywords))

    try:
        ready = begun(calls[0])
        for call, following in zip(calls, [*calls[1:], None], strict=True):
            ready.exception()  # waits
            if following is not None:
                ready = begun(following)
            yield call
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


def _work(problem: Any, rule: Any, init: Any, *, key: Any, lanes: int, **options: Any) -> Work | None:
    """The work of one call; None where it is too large for that, or wrong."""
    own = {name: options.pop(name) for name in ("train", "first") if name in options}
    try:
        chosen = Options(**{name: value for name, value in options.items() if name in OPTIONS})
        work = prepare(problem, rule, init, chosen, key=key, lanes=lanes, **own)
    except ValueError:
        return None
    at_once = work.plan.blocks * work.plan.width * len(chosen.recorded) * work.frame.size * chosen.dtype.itemsize
    return work if options.get("until") is None and at_once <= LARGEST else None


def _rehearse(work: Work | None) -> None:
    if work is not None:
        next(work.chunks(rehearsal=True))

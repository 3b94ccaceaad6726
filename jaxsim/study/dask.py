"""The engine that spreads shards over Dask workers: a cluster on this machine, or an existing scheduler.

Workers compute and send bytes back; the folder is written here alone, so workers need not see it. What goes over the
wire is pickle: who can reach a scheduler over tcp:// can run what he likes on it and on its clients.
"""

import collections
import contextlib
import functools
import logging
import queue
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from jaxsim import _machine, _plugins
from jaxsim.study.engines import Lost, Outcome, Task, described
from jaxsim.study.shards import Shard, Workshop
from jaxsim.study.spec import Study

RETRIES = 3  # of a shard whose worker died or hung
PATIENCE = 20.0  # seconds to wait for a scheduler
TIMEOUT = 600.0  # seconds for one shard
LOST = ("KilledWorker", "CancelledError", "FutureCancelledError", "LostDependencies")  # says nothing about the shard


class Spread:
    """Dask workers.

    Args:
        study: the study.
        files: contents of problem files by fingerprint; they travel with the tasks.
        address: of a scheduler, such as "tcp://host:8786" or "tls://host:8786"; None for a cluster on this machine.
        workers: processes of that cluster; by default one per core.
        timeout: seconds after which a shard's worker counts as hung; the shard goes to another and the worker is
            restarted.
        retries: how often a shard is tried again after its worker died or hung.
        patience: seconds to wait for the scheduler.
        security: a `distributed.Security`; by default what Dask's configuration says under `distributed.comm`.
    """

    def __init__(
        self,
        study: Study,
        files: Mapping[str, bytes],
        address: str | None = None,
        workers: int | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        patience: float = PATIENCE,
        security: Any = None,
    ):
        try:
            import distributed
        except ImportError:
            raise ValueError(
                "workers: expected dask.distributed to be installed; pip install 'jaxsim-attention[dask]'"
            ) from None
        self._content, self._files = study.model_dump_json(), dict(files)
        members = (study.sources or {}).values()
        self._plugins = tuple(_plugins.locations(source for found in members for source in found.values()))
        self._timeout, self._retries = timeout, retries
        self._tasks: dict[str, Task] = {}  # by the key of the attempt
        self._attempts: collections.Counter[Task] = collections.Counter()
        self._started: dict[str, tuple[str, float]] = {}
        self._sent: dict[str, float] = {}
        self._hung: set[str] = set()
        self._futures: dict[str, Any] = {}
        self._done: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._topic = f"jaxsim-{uuid.uuid4().hex}"
        self._stack = contextlib.ExitStack()
        for name in ("distributed", "distributed.client", "distributed.core", "distributed.comm"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is told in our words
        self._address = address or "on this machine"
        options = {"timeout": patience, "set_as_default": False, "security": security}
        try:
            if address is not None:
                _check_address(address, security)
            where = address or self._stack.enter_context(_cluster(workers or _machine.cores(), security))
            self._client = self._stack.enter_context(distributed.Client(where, **options))
            self._client.subscribe_topic(self._topic, self._heard)
        except Exception as error:  # of the network, of TLS, of an address that Dask cannot read
            self._stack.close()
            raise ValueError(f"workers: no Dask scheduler answers at {self._address}; {described(error)}") from error

    def room(self) -> int:
        """See Engine. One shard for every thread of a worker that is not hung."""
        return sum(threads for _, threads in self._workers()) - len(self._tasks)

    def trouble(self) -> str | None:
        """See Engine."""
        if self._workers():
            return None
        return f"the Dask scheduler {'has no worker that answers' if self._running() else 'does not answer'}"

    def _running(self) -> bool:
        """Whether the scheduler can be reached now; Lost where Dask has stopped trying."""
        if self._client.status in ("closing", "closed"):
            raise Lost(f"the Dask scheduler at {self._address} does not answer any more")
        return self._client.status == "running"

    def _workers(self) -> list[tuple[str, int]]:
        """Names and threads of the workers that are not hung."""
        known = self._asked(lambda: self._client.scheduler_info(n_workers=-1)["workers"], {})
        return [(name, worker["nthreads"]) for name, worker in known.items() if name not in self._hung]

    def _asked(self, question: Callable[[], Any], otherwise: Any) -> Any:
        """The scheduler's answer; something else for as long as it is out of reach and may come back."""
        if not self._running():
            return otherwise
        try:
            return question()
        except (OSError, KeyError):  # it has just gone; Dask notices a moment later
            self._running()
            return otherwise

    def submit(self, task: Task) -> None:
        """See Engine."""
        self._running()
        self._attempts[task] += 1
        key = f"shard-{task.cell}-{task.shard}-{uuid.uuid4().hex[:8]}"
        where: dict[str, Any] = {}
        if self._hung:
            where = {"workers": [name for name, _ in self._workers()] or None}
        self._tasks[key], self._sent[key] = task, time.monotonic()
        self._futures[key] = future = self._client.submit(
            _compute,
            self._content,
            self._plugins,
            self._files,
            task.cell,
            task.shard,
            self._topic,
            key,
            key=key,
            **where,
        )
        future.add_done_callback(lambda done: self._done.put((key, done)))

    def outcomes(self, wait: float) -> list[Outcome]:
        """See Engine."""
        found = []
        with contextlib.suppress(queue.Empty):
            key, future = self._done.get(timeout=wait)
            while True:
                found += self._judge(key, future)
                key, future = self._done.get_nowait()
        return found + self._late()

    def close(self) -> None:
        """See Engine."""
        with contextlib.suppress(Exception):  # nothing of value is left in the cluster
            self._client.cancel(list(self._futures.values()), force=True)
        with contextlib.suppress(Exception):
            self._stack.close()

    def _heard(self, event: Any) -> None:
        """A worker says that it has begun an attempt; Dask may have moved it there from a worker that died."""
        _, (key, worker) = event
        task = self._tasks.get(key)
        if key in self._started and task is not None:
            self._attempts[task] += 1
        self._started[key] = (worker, time.monotonic())

    def _judge(self, key: str, future: Any) -> list[Outcome]:
        """What became of an attempt; nothing where it is tried again or came too late."""
        task = self._tasks.pop(key, None)
        self._futures.pop(key, None)
        self._sent.pop(key, None)
        if task is None:
            return []
        error = None
        try:
            if future.status == "finished":
                content, sha256, counts, seconds = future.result()
                self._started.pop(key, None)
                return [Outcome(task, Shard(content, sha256, counts), None, seconds, self._attempts[task])]
            error = future.exception() if future.status == "error" else None
        except Exception:  # the scheduler has gone between the end of the task and its result
            self._running()
        lost = error is None or type(error).__name__ in LOST
        if lost and self._attempts[task] <= self._retries:
            self.submit(task)
            return []
        message = f"its worker died {self._attempts[task]} times" if lost else described(error)  # type: ignore
        return [Outcome(task, None, message, 0.0, self._attempts[task])]

    def _late(self) -> list[Outcome]:
        """Attempts that have taken too long: their workers count as hung and are restarted."""
        given_up = []
        for key, worker in self._overdue(time.monotonic()):
            task = self._tasks.pop(key)
            self._started.pop(key, None)
            self._hung.add(worker)
            self._futures.pop(key).cancel(force=True)
            self._restart(worker)
            if self._attempts[task] <= self._retries:
                self.submit(task)
            else:
                message = f"no answer within {self._timeout:g} s, {self._attempts[task]} times"
                given_up.append(Outcome(task, None, message, 0.0, self._attempts[task]))
        return given_up

    def _overdue(self, now: float) -> list[tuple[str, str]]:
        """Attempts that have run too long, or have not begun because their worker does not answer; and the worker."""
        since = {
            key: self._started.get(key, (None, began))[1] for key, began in self._sent.items() if key in self._tasks
        }
        stale = [key for key, began in since.items() if now - began > self._timeout]
        if not stale:
            return []
        at_work = {self._started[key][0] for key in since if key in self._started and key not in stale}
        processing: Any = self._asked(self._client.processing, {})
        given = {key: worker for worker, keys in processing.items() for key in keys}
        places = {key: self._started[key][0] if key in self._started else given.get(key) for key in stale}
        # What has not begun at a worker that is at work on something else waits its turn.
        return [(k, w) for k, w in places.items() if w is not None and (k in self._started or w not in at_work)]

    def _restart(self, worker: str) -> None:
        """Ask the worker's nanny for a new process, without waiting; one that has no nanny is left alone."""
        loop: Any = self._client.loop
        loop.add_callback(self._client._restart_workers, [worker], timeout=10, raise_for_error=False)


def _check_address(address: str, security: Any) -> None:
    """Refuse what would leave a client of Dask half connected, which ends badly when the process does."""
    import dask
    import distributed
    from distributed.comm import get_address_host_port

    if not address.startswith("inproc://"):  # of this process; it has no port
        get_address_host_port(address, strict=True)
    loaded = security or dask.config.get("distributed.client.security-loader", None)
    if address.startswith("tls://") and not loaded:
        if distributed.Security().get_connection_args("client")["ssl_context"] is None:
            raise ValueError(
                "expected ca-file, client.cert and client.key in Dask's configuration, distributed.comm.tls"
            )


def _cluster(workers: int, security: Any) -> Any:
    """Processes on this machine, one thread each."""
    import distributed

    # Ctrl-C reaches every process of a terminal; workers leave the answer to us.
    deaf = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    options: dict[str, Any] = {"dashboard_address": None, "silence_logs": logging.CRITICAL, "preload": [deaf]}
    return distributed.LocalCluster(n_workers=workers, threads_per_worker=1, security=security, **options)


@functools.lru_cache(maxsize=2)
def _workshop(content: str, plugins: tuple[Any, ...], files: tuple[tuple[str, bytes], ...]) -> Workshop:
    _plugins.load_again(plugins)
    return Workshop(Study.model_validate_json(content), dict(files))


def _compute(
    content: str, plugins: tuple[Any, ...], files: dict[str, bytes], cell: int, shard: int, topic: str, key: str
) -> tuple[bytes, str, tuple[int, ...], float]:
    """On a worker: one shard, as plain values."""
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(topic, (key, worker.address))
    began = time.perf_counter()
    made = _workshop(content, plugins, tuple(files.items())).shard(cell, shard)
    return made.content, made.sha256, made.counts, time.perf_counter() - began

"""Several workers at once for the points of a plan, each with a separate GPU.

CUDA_VISIBLE_DEVICES in a worker's environment names the GPU.
"""

import os
import queue
import threading
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence

from dlm_bench.errors import ConfigError
from dlm_bench.results.record import Record
from dlm_bench.sweep.launch.queue import WorkQueue
from dlm_bench.sweep.plan import Plan
from dlm_bench.sweep.run import Executor, Limits

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
MAX_ERRORS = 3  # points in a row whose error may be the GPU's

Event = tuple[int, Record | None, float] | BaseException | None


def gpu_environments(
    plan: Plan, environment: Mapping[str, str] = os.environ
) -> list[dict[str, str]]:
    """Return a worker's environment for each usable GPU: the name in CUDA_VISIBLE_DEVICES, or else
    the number.

    Raises ConfigError for a plan without GPUs, for a numbered GPU, or for GPUs that differ: the
    record of a point would depend on the choice of the GPU.
    """
    device = plan.sweep.points[0].device
    if not device.startswith("cuda"):
        raise ConfigError(
            f"--launcher: 'local' is not allowed on device {device!r}; it needs GPUs, as points "
            "measured at once on one CPU slow each other down"
        )
    if device != "cuda:0":
        raise ConfigError(
            f"--launcher: 'local' is not allowed on device {device!r}; must be 'cuda', of which "
            "each worker sees one"
        )
    kinds = sorted(set(plan.gpus))
    if len(kinds) > 1:
        raise ConfigError(
            f"--launcher: 'local' is not allowed on GPUs that differ ({', '.join(kinds)}); choose "
            f"by {VISIBLE_DEVICES}"
        )
    given = environment.get(VISIBLE_DEVICES)
    names = [str(n) for n in range(len(plan.gpus))] if given is None else given.split(",")
    return [{VISIBLE_DEVICES: name.strip()} for name in names[: len(plan.gpus)]]


def run_on(
    executors: Sequence[Executor],
    plan: Plan,
    found: Sequence[Record] = (),
    begin: Callable[[int], object] = lambda index: None,
    wanted: Callable[[int], bool] = lambda index: True,
    keep: Callable[[int, Record], object] = lambda index, record: None,
) -> Generator[tuple[int, Record, float], None, None]:
    """Measure as `Executor.run` does, with all these executors at once, in a `WorkQueue`'s order.

    `wanted` is asked right before a point starts; False leaves the point out. `keep` gets the
    record of a point as soon as there is one, in the thread of its worker, whoever takes the
    results and when. A worker with several errors in a row is given up, while there are others.
    Closing the iterator ends all workers.
    """
    done = {record.identity for record in found}
    todo = [index for index, each in enumerate(plan.identities()) if each not in done]
    pool = _WorkerPool(plan, WorkQueue(plan, todo), Limits(found), wanted, keep, len(executors))
    threads = [threading.Thread(target=pool.work, args=(each,)) for each in executors]
    try:
        for thread in threads:
            thread.start()
        at_work = len(threads)
        while at_work:
            event = pool.events.get()
            if event is None:
                at_work -= 1
            elif isinstance(event, BaseException):
                raise event
            elif event[1] is None:
                begin(event[0])
            else:
                yield event[0], event[1], event[2]
    finally:
        pool.over = True
        for executor in executors:
            executor.interrupt()
        for thread in threads:
            if thread.ident is not None:  # it was started
                thread.join()


class _WorkerPool:
    """The state shared by the threads of all executors.

    A thread lives as long as the worker: the kernel would kill the worker with the thread
    (PR_SET_PDEATHSIG is about threads).
    """

    def __init__(
        self,
        plan: Plan,
        work: WorkQueue,
        limits: Limits,
        wanted: Callable[[int], bool],
        keep: Callable[[int, Record], object],
        workers: int,
    ) -> None:
        self._plan, self._queue, self._limits = plan, work, limits
        self._wanted, self._keep = wanted, keep
        self._lock = threading.Lock()  # of all above, and of the count of those at work
        self._workers = workers
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.over = False

    def work(self, executor: Executor) -> None:
        """Take points and measure them until none is left."""
        try:
            errors = 0
            while not self._may_leave(errors) and (index := self._take(executor)) is not None:
                record, seconds = self._measure(executor, index)
                if self.over and record.status != "ok":
                    return  # what the interrupt made of the point says nothing about it
                try:
                    self._keep(index, record)
                finally:  # a record that cannot be written is shown all the same
                    self.events.put((index, record, seconds))
                if record.status != "skipped":
                    errors = errors + 1 if _may_be_the_gpu(record) else 0
                with self._lock:
                    # While there are others, an error of this GPU says nothing of the series.
                    if self._workers == 1 or not _may_be_the_gpu(record):
                        self._limits.note(record)
                    self._queue.done(index)
        except BaseException as error:  # a fault of this program, for the thread that can show it
            self.events.put(error)
        finally:
            executor.stop()
            self.events.put(None)

    def _take(self, executor: Executor) -> int | None:
        with self._lock:
            while not self.over and (index := self._queue.take(executor.model)) is not None:
                if self._wanted(index):
                    return index
                self._queue.done(index)
        return None

    def _measure(self, executor: Executor, index: int) -> tuple[Record, float]:
        self.events.put((index, None, 0.0))
        with self._lock:
            skipped = self._limits.skip(self._plan, self._plan.sweep.points[index])
        return (skipped, 0.0) if skipped is not None else executor.measure(self._plan, index)

    def _may_leave(self, errors: int) -> bool:
        """Decide if a worker with this many errors in a row is given up, as others go on."""
        if errors < MAX_ERRORS:
            return False
        with self._lock:
            if self._workers == 1:
                return False
            self._workers -= 1
        warnings.warn(
            f"a worker is given up after {errors} errors in a row; the others go on", stacklevel=2
        )
        return True


def _may_be_the_gpu(record: Record) -> bool:
    """Recognise a failure of a broken GPU: the worker's end, or an error of CUDA.

    Any other failure is about the point, the same on every GPU.
    """
    told = record.message
    return record.status == "error" and ("the worker" in told or "CUDA" in told)

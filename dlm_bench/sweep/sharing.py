"""A sweep beside other sweeps of the same results file: each point is measured by a single
sweep."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from pathlib import Path

from dlm_bench.results.claims import Claims
from dlm_bench.results.record import Record
from dlm_bench.results.store import append_record, read_appended
from dlm_bench.sweep.plan import Plan

POLL_SECONDS = 0.5  # between two looks for records of other sweeps

Result = tuple[int, Record, float]


class Shared:
    """The points of a plan without a record, in a results file with several writers.

    A point with a record after byte `start` of the file, by any sweep, counts as measured; with
    `anywhere`, on any hardware.
    """

    def __init__(
        self,
        plan: Plan,
        output: Path,
        start: int,
        claims: Claims,
        found: Iterable[Record] = (),
        *,
        anywhere: bool = False,
    ) -> None:
        self._plan = plan.anywhere() if anywhere else plan
        self._output, self._claims = output, claims
        self._names, self._claimed = self._plan.identities(), plan.identities()
        self._indices = {name: index for index, name in enumerate(self._names)}
        self._read = start
        self.appended = 0  # records of this sweep's own
        self._own: Counter[str] = Counter()  # of them, by point, those not yet seen in the file
        self._settled: set[str] = set()  # points that another sweep measured, or this one twice
        self._others: list[Result] = []
        self._lock = threading.Lock()  # of all that changes: a fleet asks from several threads
        self.missing = set(self._names) - {self._plan.key_of(record) for record in found}

    def claim(self, index: int) -> bool:
        """Claim a point without a record, unless another sweep has claimed the point."""
        name = self._names[index]
        with self._lock:
            return self._claim_if(index, lambda: name in self.missing)

    def claim_again(self, index: int) -> bool:
        """Claim a measured point to improve the result, once; never a point of another sweep."""
        name = self._names[index]
        with self._lock:
            free = self._claim_if(index, lambda: name not in self._settled)
            self._settled.add(name)
        return free

    def append(self, index: int, record: Record) -> None:
        """Write the record of a claimed point, and give the claim up."""
        name = self._names[index]

        def wrote() -> None:
            with self._lock:
                self.appended += 1

        with self._lock:
            self.missing.discard(name)
            self._own[name] += 1
        append_record(self._output, record, wrote)
        self._claims.drop(self._claimed[index])

    def others_results(self) -> list[Result]:
        """Return the records that others wrote since the last call."""
        with self._lock:
            self._read_new()
            others, self._others = self._others, []
        return others

    def _claim_if(self, index: int, open_still: Callable[[], bool]) -> bool:
        if not open_still() or not self._claims.take(self._claimed[index]):
            return False
        self._read_new()  # after the claim: a record of its last owner is there now
        if open_still():
            return True
        self._claims.drop(self._claimed[index])
        return False

    def _read_new(self) -> None:
        records, self._read = read_appended(self._output, self._read)
        for record in records:
            name = self._plan.key_of(record)
            if name not in self._indices:
                continue
            if self._own[name]:
                self._own[name] -= 1
                continue
            self._settled.add(name)
            if name in self.missing:
                self.missing.discard(name)
                self._others.append((self._indices[name], record, 0.0))


def run_shared(
    run: Callable[[], Generator[Result, None, None]],
    shared: Shared,
    wait: Callable[[int], object] = lambda count: None,
) -> Generator[tuple[Result, bool], None, None]:
    """Measure by `run`, which asks `Shared.claim` before each point, until every point has a
    record.

    Yields the results of `run`, with True, and records of other sweeps, with False. `wait` gets the
    number of points claimed by others while there is nothing else to do; the points of a sweep that
    dies are measured by this sweep.
    """
    while True:
        idle = True
        with closing(run()) as results:
            for result in results:
                idle = False
                yield result, True
                yield from ((other, False) for other in shared.others_results())
        yield from ((other, False) for other in shared.others_results())
        if not shared.missing:
            return
        if idle:
            wait(len(shared.missing))
            time.sleep(POLL_SECONDS)

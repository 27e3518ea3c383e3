"""A sweep beside other sweeps of the same results file: each point is measured by one of them."""

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

POLL_SECONDS = 0.5  # between two looks at points that others are at

Result = tuple[int, Record, float]


class Shared:
    """The points of a plan that have no record yet, in a results file that others may write to.

    A point with a record after byte `start` of the file, of whichever sweep, has been measured; if
    `anywhere`, on whichever hardware.
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
        self._places = {name: index for index, name in enumerate(self._names)}
        self._read = start
        self.appended = 0  # records of this sweep's own
        self._own: Counter[str] = Counter()  # of them, by point, those not yet seen in the file
        self._settled: set[str] = set()  # points that another sweep measured, or this one twice
        self._others: list[Result] = []
        self._lock = threading.Lock()  # of all that changes: a fleet asks from several threads
        self.lacking = set(self._names) - {self._plan.key_of(record) for record in found}

    def free(self, index: int) -> bool:
        """Claim a point, if nobody is at it and nobody has measured it."""
        name = self._names[index]
        with self._lock:
            return self._claim(index, lambda: name in self.lacking)

    def free_again(self, index: int) -> bool:
        """Claim a measured point to improve it, once; not one that is another sweep's."""
        name = self._names[index]
        with self._lock:
            free = self._claim(index, lambda: name not in self._settled)
            self._settled.add(name)
        return free

    def append(self, index: int, record: Record) -> None:
        """Write the record of a claimed point, and give the claim up."""
        name = self._names[index]

        def wrote() -> None:
            self.appended += 1

        with self._lock:
            self.lacking.discard(name)
            self._own[name] += 1
        append_record(self._output, record, wrote)
        self._claims.drop(self._claimed[index])

    def of_others(self) -> list[Result]:
        """The records that others wrote since the last call."""
        with self._lock:
            self._look()
            others, self._others = self._others, []
        return others

    def _claim(self, index: int, open_still: Callable[[], bool]) -> bool:
        if not open_still() or not self._claims.take(self._claimed[index]):
            return False
        self._look()  # after the claim: a record of its last owner is there now
        if open_still():
            return True
        self._claims.drop(self._claimed[index])
        return False

    def _look(self) -> None:
        records, self._read = read_appended(self._output, self._read)
        for record in records:
            name = self._plan.key_of(record)
            if name not in self._places:
                continue
            if self._own[name]:
                self._own[name] -= 1
                continue
            self._settled.add(name)
            if name in self.lacking:
                self.lacking.discard(name)
                self._others.append((self._places[name], record, 0.0))


def run_shared(
    run: Callable[[], Generator[Result, None, None]],
    shared: Shared,
    wait: Callable[[int], object] = lambda count: None,
) -> Generator[tuple[Result, bool], None, None]:
    """Measure by `run`, which asks `Shared.free` before each point, until no point lacks a record.

    Yields what `run` yields, and the records that others wrote meanwhile; True says that a record
    is this sweep's own. `wait` is told how many points others are at while there is nothing else
    to do; those of a sweep that dies are measured here.
    """
    while True:
        idle = True
        with closing(run()) as results:
            for result in results:
                idle = False
                yield result, True
                yield from ((other, False) for other in shared.of_others())
        yield from ((other, False) for other in shared.of_others())
        if not shared.lacking:
            return
        if idle:
            wait(len(shared.lacking))
            time.sleep(POLL_SECONDS)

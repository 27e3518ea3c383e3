"""The points of a results file that several sweeps write to."""

import errno
import fcntl
import os

import pytest
from support.processes import quick_plan
from support.records import make_record

from dlm_bench.errors import ClaimWarning
from dlm_bench.results.claims import Claims
from dlm_bench.results.store import append_record, read_records
from dlm_bench.sweep.sharing import Shared

A = "diffutran"


class Held:
    """Claims that remember what is held."""

    def __init__(self):
        self.names = set()

    def take(self, name):
        self.names.add(name)
        return True

    def drop(self, name):
        self.names.discard(name)


@pytest.fixture
def plan():
    return quick_plan([(A, n) for n in (32, 64, 96)])


@pytest.fixture
def output(tmp_path):
    return tmp_path / "r.jsonl"


def measured(plan, index, hardware="imaginary"):
    """A record of a point, as a worker on this hardware makes it."""
    there = plan.model_copy(update={"environment": {"hardware": hardware}})
    identity = there.identities()[index]
    record = make_record(identity=identity, environment={"hardware": hardware})
    return record.model_copy(update={"point": plan.sweep.points[index]})


@pytest.mark.parametrize("anywhere", [False, True])
def test_no_claim_outlives_the_record_of_its_point(plan, output, anywhere):
    held = Held()
    shared = Shared(plan, output, 0, held, anywhere=anywhere)
    assert shared.claim(0)
    assert held.names == {plan.identities()[0]}
    shared.append(0, measured(plan, 0))
    append_record(output, measured(plan, 1))  # another sweep's
    assert not shared.claim(0)
    assert not shared.claim(1)
    assert not held.names
    assert [index for index, _, _ in shared.others_results()] == [1]


def test_a_record_of_other_hardware_settles_a_point_of_a_job_and_of_no_other_sweep(plan, output):
    append_record(output, measured(plan, 0, "another"))
    assert Shared(plan, output, 0, Held()).claim(0)
    assert not Shared(plan, output, 0, Held(), anywhere=True).claim(0)


def test_of_two_sweeps_the_one_that_measured_a_point_improves_it_once(plan, output):
    mine, other = (Shared(plan, output, 0, Held()) for _ in range(2))
    assert mine.claim(0)
    mine.append(0, measured(plan, 0))
    assert not other.claim_again(0)
    assert mine.claim_again(0)
    mine.append(0, measured(plan, 0))
    assert not mine.claim_again(0)
    assert mine.appended == 2


def test_of_two_sweeps_that_found_a_point_one_improves_it(plan, output):
    append_record(output, measured(plan, 0))
    found, start = read_records(output), output.stat().st_size
    mine, other = (Shared(plan, output, start, Held(), found) for _ in range(2))
    assert mine.claim_again(0)
    mine.append(0, measured(plan, 0))
    assert not other.claim_again(0)


def interrupted(*_):
    raise KeyboardInterrupt


def interrupted_after_it(fd, line, write=os.write):
    write(fd, line)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("where", "how", "appended"),
    [
        ("locked", interrupted, 0),
        ("os.write", interrupted, 0),
        ("os.write", interrupted_after_it, 1),
        ("os.fsync", interrupted, 1),
    ],
)
def test_an_interrupt_counts_the_records_that_are_in_the_file(
    plan, output, monkeypatch, where, how, appended
):
    shared = Shared(plan, output, 0, Held())
    shared.claim(0)
    monkeypatch.setattr(f"dlm_bench.results.store.{where}", how)
    with pytest.raises(KeyboardInterrupt):
        shared.append(0, measured(plan, 0))
    assert shared.appended == len(read_records(output)) == appended


def refusing(monkeypatch, number):
    """Have the system refuse the lock of every point for this reason."""
    granted = fcntl.lockf

    def lockf(fd, command, *where):
        if command & fcntl.LOCK_EX and where:
            raise OSError(number, "no")
        return granted(fd, command, *where)

    monkeypatch.setattr(fcntl, "lockf", lockf)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO])
def test_a_claim_that_the_system_cannot_keep_is_granted_with_one_warning(
    output, monkeypatch, number
):
    with Claims(output) as claims:
        refusing(monkeypatch, number)
        with pytest.warns(ClaimWarning, match="would measure the same points") as caught:
            granted = [claims.take(name) for name in ("0a", "0b")]
    assert granted == [True, True]
    assert len(caught) == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN])
def test_a_claim_that_another_process_holds_is_not_granted(output, monkeypatch, number):
    with Claims(output) as claims:
        refusing(monkeypatch, number)
        assert not claims.take("0a")

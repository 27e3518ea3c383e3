"""Who of several workers measures what next."""

from support.processes import quick_plan

from dlm_bench.sweep.launch.queue import WorkQueue
from dlm_bench.sweep.plan import model_key

A, B, C = "diffutran", "diffumamba", "diffumamba-h"


def queue_of(points, work=None):
    plan = quick_plan(points)
    if work is not None:
        plan = plan.model_copy(update={"work": work})
    return plan, WorkQueue(plan, range(len(points)))


def model(plan, index):
    return model_key(plan.sweep.points[index])


def test_workers_start_with_different_models_and_the_most_work_first():
    _, queue = queue_of([(A, 64), (B, 64), (C, 64)], work=[1.0, 3.0, 2.0])
    assert [queue.take(None) for _ in range(4)] == [1, 2, 0, None]


def test_the_lengths_of_a_line_come_in_order_while_other_lines_are_open():
    plan, queue = queue_of([(A, 64), (A, 128), (B, 64), (B, 128)])
    first, second = queue.take(None), queue.take(None)
    assert (first, second) == (0, 2)
    queue.done(first)
    assert queue.take(model(plan, first)) == 1


def test_a_worker_stays_with_its_model_though_another_has_more_work_left():
    points = [(A, 64), (A, 128), (B, 64), (B, 128)]
    plan, queue = queue_of(points, work=[1.0, 1.0, 9.0, 9.0])
    taken = queue.take(model(plan, 0))
    assert taken == 0
    queue.done(taken)
    assert queue.take(model(plan, 0)) == 1
    queue.done(1)
    assert queue.take(model(plan, 0)) == 2, "of its own there is none left"


def test_a_worker_rather_loads_a_model_than_join_in_a_line_of_its_own():
    plan, queue = queue_of([(A, 64), (A, 128), (B, 64)], work=[1.0, 9.0, 1.0])
    assert queue.take(None) == 0
    assert queue.take(model(plan, 0)) == 2


def test_a_worker_without_a_line_of_its_own_takes_the_next_length_of_one_that_another_is_at():
    _, queue = queue_of([(A, 64), (A, 128), (A, 256)])
    assert [queue.take(None) for _ in range(3)] == [0, 1, 2]


def test_every_point_is_handed_out_exactly_once():
    points = [(b, n) for b in (A, B, C) for n in range(1, 21)]
    plan, queue = queue_of(points)
    loaded, taken = [None] * 4, []
    for turn in range(len(points)):
        index = queue.take(loaded[turn % 4])
        loaded[turn % 4] = model(plan, index)
        taken.append(index)
        if turn % 3:
            queue.done(index)
    assert sorted(taken) == list(range(len(points)))
    assert queue.take(None) is None

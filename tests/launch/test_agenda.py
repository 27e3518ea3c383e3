"""Who of several workers measures what next."""

from support.processes import quick_plan

from dlm_bench.sweep.launch.queue import Agenda
from dlm_bench.sweep.plan import model_of

A, B, C = "diffutran", "diffumamba", "diffumamba-h"


def agenda_of(points, work=None):
    plan = quick_plan(points)
    if work is not None:
        plan = plan.model_copy(update={"work": work})
    return plan, Agenda(plan, range(len(points)))


def model(plan, index):
    return model_of(plan.sweep.points[index])


def test_workers_start_with_different_models_and_the_most_work_first():
    _, agenda = agenda_of([(A, 64), (B, 64), (C, 64)], work=[1.0, 3.0, 2.0])
    assert [agenda.take(None) for _ in range(4)] == [1, 2, 0, None]


def test_the_lengths_of_a_line_come_in_order_while_other_lines_are_open():
    plan, agenda = agenda_of([(A, 64), (A, 128), (B, 64), (B, 128)])
    first, second = agenda.take(None), agenda.take(None)
    assert (first, second) == (0, 2)
    agenda.done(first)
    assert agenda.take(model(plan, first)) == 1


def test_a_worker_stays_with_its_model_though_another_has_more_work_left():
    points = [(A, 64), (A, 128), (B, 64), (B, 128)]
    plan, agenda = agenda_of(points, work=[1.0, 1.0, 9.0, 9.0])
    taken = agenda.take(model(plan, 0))
    assert taken == 0
    agenda.done(taken)
    assert agenda.take(model(plan, 0)) == 1
    agenda.done(1)
    assert agenda.take(model(plan, 0)) == 2, "of its own there is none left"


def test_a_worker_rather_loads_a_model_than_join_in_a_line_of_its_own():
    plan, agenda = agenda_of([(A, 64), (A, 128), (B, 64)], work=[1.0, 9.0, 1.0])
    assert agenda.take(None) == 0
    assert agenda.take(model(plan, 0)) == 2


def test_a_worker_without_a_line_of_its_own_takes_the_next_length_of_one_that_another_is_at():
    _, agenda = agenda_of([(A, 64), (A, 128), (A, 256)])
    assert [agenda.take(None) for _ in range(3)] == [0, 1, 2]


def test_every_point_is_handed_out_exactly_once():
    points = [(b, n) for b in (A, B, C) for n in range(1, 21)]
    plan, agenda = agenda_of(points)
    loaded, taken = [None] * 4, []
    for turn in range(len(points)):
        index = agenda.take(loaded[turn % 4])
        loaded[turn % 4] = model(plan, index)
        taken.append(index)
        if turn % 3:
            agenda.done(index)
    assert sorted(taken) == list(range(len(points)))
    assert agenda.take(None) is None

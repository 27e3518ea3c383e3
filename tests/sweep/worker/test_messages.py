"""The JSON between a worker and its parent: `ab` talks to revisions that know these keys alone."""

import pytest
from support.processes import quick_plan
from support.records import make_record

from dlm_bench.sweep.worker.messages import (
    Failed,
    Failure,
    Measured,
    MeasureJob,
    MessageError,
    PlanJob,
    Planned,
    Ready,
    Refused,
    read_answer,
    read_job,
)

PLAN = quick_plan([("diffutran", 32)])
JOB = MeasureJob.of(PLAN.sweep, PLAN.sweep.points[0], PLAN.sweep.measuring)
FAILURE = Failure(status="oom", message="no room")


def test_a_job_has_the_keys_of_all_revisions():
    assert PlanJob(plan={"path": "s.toml"}).json_object() == {"plan": {"path": "s.toml"}}
    line = JOB.json_object()
    assert line.keys() == {"measure", "measuring", "memory_limit", "traces", "prompts"}
    assert line["measure"] == PLAN.sweep.points[0].asked()
    assert line["measuring"] == PLAN.sweep.measuring.model_dump()


@pytest.mark.parametrize(
    ("answer", "keys"),
    [
        (Ready(ready=7), {"ready"}),
        (Planned(plan=PLAN), {"plan"}),
        (Refused(mistake="s.toml: bad"), {"mistake"}),
        (Measured(record=make_record(), seconds=1.0), {"record", "seconds"}),
        (Failed(failure=FAILURE), {"failure"}),
    ],
)
def test_an_answer_has_the_keys_of_all_revisions(answer, keys):
    assert answer.json_object().keys() == keys


@pytest.mark.parametrize("job", [PlanJob(plan={"path": "s.toml", "on_this_machine": False}), JOB])
def test_a_job_is_read_as_it_was_written(job):
    assert read_job(job.json_object()) == job


@pytest.mark.parametrize(
    "answer",
    [
        Planned(plan=PLAN),
        Refused(mistake="bad"),
        Measured(record=make_record(), seconds=1.0),
        Failed(failure=FAILURE),
    ],
)
def test_an_answer_is_read_as_it_was_written_with_the_warnings_of_its_job(answer):
    read = read_answer(answer.json_object() | {"warnings": ["hot"]})
    assert read == answer.model_copy(update={"warnings": ["hot"]})


def test_what_an_older_worker_leaves_out_and_a_newer_one_adds_does_no_harm():
    old = {"failure": {"status": "error", "message": "broken"}}
    assert read_answer(old).failure.kernels == {}
    job = JOB.json_object()
    del job["traces"]
    assert read_job(job | {"news": 1}).traces == {}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ({"record": {"point": None}, "seconds": 1.0}, "^point: "),
        ({"plan": {"sweep": 1}}, "^sweep: "),
        ({}, "none of plan, mistake, record, failure"),
    ],
)
def test_an_answer_of_another_version_names_its_field(line, named):
    with pytest.raises(MessageError, match=named):
        read_answer(line)

"""A Slurm job: the serialised task and the entry point."""

import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from dlm_bench.errors import DlmBenchError, ResultsError
from dlm_bench.results.claims import Claims
from dlm_bench.results.record import Record
from dlm_bench.results.store import check_writable
from dlm_bench.sweep.launch.multi_gpu import gpu_environments, run_on
from dlm_bench.sweep.plan import Plan, model_key
from dlm_bench.sweep.progress import SweepProgress
from dlm_bench.sweep.run import Executor
from dlm_bench.sweep.sharing import Shared


class Task(BaseModel):
    """The part of a sweep for a job.

    sweep: the sweep file at the submission. overrides: arguments of `load_sweep`.
    points: identities with the hardware left open. output: the results file.
    start: length of the results file in bytes at the submission; a point with a later record is
        done.
    limits: earlier records of points out of memory or time; longer points are not tried.
    worker: the command line of a worker. run: number of the run that the points are of.
    """

    model_config = ConfigDict(frozen=True)

    sweep: Path
    overrides: dict[str, Any]
    points: list[str]
    output: Path
    start: int
    limits: list[Record]
    worker: list[str]
    run: int = 1


def parts_of(plan: Plan, missing: Sequence[int], most: int | None = None) -> list[list[int]]:
    """Return the points of each job: a model's, in parts of at most `most`, if given."""
    models: dict[tuple[str, ...], list[int]] = {}
    for index in missing:
        models.setdefault(model_key(plan.sweep.points[index]), []).append(index)
    return [
        points[first : first + (most or len(points))]
        for points in models.values()
        for first in range(0, len(points), most or len(points))
    ]


def do_task(file: Path) -> None:
    """Measure the points of a task on this machine and append their records; the body of a job.

    Points with a record by now, as the job was requeued or another job was quicker, are left out. A
    mistake is a line, the last of the job's log, and exit code 2.
    """
    # A scheduler's SIGTERM ends this process and with it its workers: the point under way is lost,
    # and no other. Its notice that the time is nearly up is of no use here.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        _measure(Task.model_validate_json(file.read_text()))
    except DlmBenchError as error:
        print(f"dlm-bench: {error}", file=sys.stderr)
        sys.exit(2)


def _measure(task: Task) -> None:
    with Executor(task.worker) as executor:
        plan = executor.plan(task.sweep, **task.overrides).of_run(task.run)
    names = {name: index for index, name in enumerate(plan.anywhere().identities())}
    if unknown := sum(name not in names for name in task.points):
        raise ResultsError(
            f"{unknown} of {len(task.points)} points are not in the sweep as it is read now; "
            "dlm-bench was changed after this job was submitted"
        )
    plan = plan.part([names[name] for name in task.points])
    check_writable(task.output)
    # One place is all that a CPU is; a job that got more GPUs than one uses them.
    alike = len(set(plan.gpus)) == 1 and plan.sweep.points[0].device == "cuda:0"
    # What was too much for other hardware need not be for this.
    here = plan.environment["hardware"]
    limits = [record for record in task.limits if record.environment.get("hardware") == here]
    executors = [executor.at(place) for place in (gpu_environments(plan) if alike else [{}])]
    with Claims(task.output) as claims, ExitStack() as ending:
        shared = Shared(plan, task.output, task.start, claims, anywhere=True)
        progress = ending.enter_context(SweepProgress(plan, workers=len(executors)))
        run = run_on(executors, plan, limits, progress.begin, shared.claim, shared.append)
        results = ending.enter_context(closing(run))
        for index, record, seconds in results:
            progress.end(index, record, seconds)

"""`sweep --launcher slurm`: a sweep in the jobs of a cluster."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm_bench.cli.sweep_results import conclude, find_records, warn_of_random_weights
from dlm_bench.errors import counted
from dlm_bench.results.record import Record
from dlm_bench.results.store import check_writable, read_appended, size_of
from dlm_bench.signals import at_interrupt
from dlm_bench.sweep.launch.slurm import Job, Jobs, SlurmError, check_slurm
from dlm_bench.sweep.launch.task import Task, parts_of
from dlm_bench.sweep.plan import Plan
from dlm_bench.sweep.progress import SweepProgress
from dlm_bench.sweep.run import Executor

FILE_SECONDS = 1.0  # between two looks at the results file
JOBS_SECONDS = 10.0  # and at the jobs: Slurm's controller answers all of a cluster


@dataclass
class _Run:
    """A run of the sweep in jobs.

    plan: of the run. found: records that were there, by point. jobs: with the other points.
    """

    plan: Plan
    found: dict[str, Record]
    jobs: list[Job]

    def lacking(self) -> set[str]:
        """Return the points that the jobs are to measure."""
        wanted = {name for job in self.jobs for name in job.task.points}
        return wanted & set(self.plan.identities()) - set(self.found)


def sweep_on_slurm(
    args: argparse.Namespace, options: dict[str, Any], overrides: dict[str, Any]
) -> int:
    """Submit the points of a file without those found or in jobs of an earlier submission, and wait
    for all points; return 3 if a point has no ok record."""
    check_slurm()
    with Executor() as executor:
        # The machine that submits may have neither the GPU nor the kernels that the jobs find.
        plan = executor.plan(args.file, on_this_machine=False, **overrides)
    output = (args.output or Path("results") / f"{plan.sweep.name}.jsonl").absolute()
    warn_of_random_weights(plan.sweep)
    check_writable(output)
    jobs = Jobs(output)
    plans = [plan.of_run(run) for run in range(1, args.runs + 1)]
    with jobs.alone():
        # In this order: a job that ends in between has its records in the file.
        live = jobs.live() if args.resume else []
        start = size_of(output)
        records = find_records(args, plans, output)
        runs = [_Run(each, each.best_of(records), _jobs_of(each, live)) for each in plans]
        for job in [job for run in runs for job in run.jobs]:
            print(f"job {job.number} of an earlier submission goes on ({job.state.lower()})")
        copy: Path | None = None
        for run in runs:
            names = run.plan.identities()
            taken = {*run.found, *(name for job in run.jobs for name in job.task.points)}
            missing = [index for index, name in enumerate(names) if name not in taken]
            for part in parts_of(run.plan, missing, args.points_per_job):
                copy = copy or jobs.keep(args.file)
                task = Task(
                    sweep=copy,
                    overrides=overrides | {"base_folder": str(Path(args.file).absolute().parent)},
                    points=[names[index] for index in part],
                    output=output,
                    start=start,
                    limits=[r for r in run.found.values() if r.status in ("oom", "timeout")],
                    worker=list(executor.command),
                    run=run.plan.run,
                )
                job = jobs.submit(task, plan.sweep.name, options)
                run.jobs.append(job)
                print(f"job {job.number} submitted: {counted(len(part), 'point')}", flush=True)
    if args.no_wait:
        return 0
    return _wait(runs, jobs, output, start)


def _jobs_of(plan: Plan, live: Sequence[Job]) -> list[Job]:
    names = set(plan.identities())
    return [job for job in live if names & set(job.task.points)]


def _wait(runs: Sequence[_Run], jobs: Jobs, output: Path, start: int) -> int:
    """Wait, run by run, until every point of the jobs has a record or they are over, and print the
    summary."""
    records = [record for run in runs for record in run.found.values()]
    found = len(records)
    left: list[tuple[Job, set[str]]] = []  # the jobs that are over, and the points without a record
    numbers = " ".join(job.number for run in runs for job in run.jobs)
    kept = f"the jobs go on, and --resume waits for them again (to end them: scancel {numbers})"
    with at_interrupt(lambda: kept):
        for run in runs:
            lacking = run.lacking()
            with SweepProgress(run.plan, run.found, runs=len(runs)) as progress:
                _follow(run.plan, jobs, run.jobs, records, lacking, output, start, progress)
            left += [(job, lacking & set(job.task.points)) for job in run.jobs]
    code = conclude([run.plan for run in runs], records, len(records) - found, output)
    kinds = sorted({r.environment["hardware"] for r in records if "hardware" in r.environment})
    if len(kinds) > 1:
        print(
            f"dlm-bench: warning: the records are of different hardware: {'; '.join(kinds)}; "
            "--slurm constraint=NAME, partition=NAME or nodelist=NAME asks for one kind",
            file=sys.stderr,
        )
    for job, missing in left:
        if missing:
            print(
                f"dlm-bench: job {job.number} left {len(missing)} of {len(job.task.points)} points "
                f"without a record, which --resume submits again; {jobs.end_of(job)}",
                file=sys.stderr,
            )
    return 3 if any(missing for _, missing in left) else code


def _follow(
    plan: Plan,
    jobs: Jobs,
    mine: Sequence[Job],
    records: list[Record],
    lacking: set[str],
    output: Path,
    read: int,
    progress: SweepProgress,
) -> None:
    """Collect the records of `lacking` points, until none is left or these jobs are over."""
    places = {name: index for index, name in enumerate(plan.identities())}
    states = {job.number: job.state for job in mine}
    looked = -JOBS_SECONDS
    while lacking and states:
        if time.monotonic() - looked >= JOBS_SECONDS:
            looked = time.monotonic()
            try:
                states = {j.number: j.state for j in jobs.live() if j.number in states}
                counts = Counter(states.values())
                parts = [f"{count} {state.lower()}" for state, count in sorted(counts.items())]
                progress.tell(f"jobs: {', '.join(parts) or 'none left'}")
            except SlurmError as error:  # its controller may be restarted while the jobs go on
                progress.tell(str(error))
        # After the look at the jobs: what they wrote before their end is there now.
        new, read = read_appended(output, read)
        for record in new:
            name = plan.key_of(record)
            if name in places:
                lacking.discard(name)
                records.append(record)
                progress.end(places[name], record, 0.0)
        if lacking and states:
            time.sleep(FILE_SECONDS)

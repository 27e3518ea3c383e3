"""`sweep --launcher slurm`: a sweep in the jobs of a cluster."""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from dlm_bench.cli.sweep_results import conclude, find_records, warn_of_random_weights
from dlm_bench.errors import counted
from dlm_bench.results.record import Record
from dlm_bench.results.store import check_writable, read_appended, size_of
from dlm_bench.signals import exit_code
from dlm_bench.sweep.launch.slurm import Job, Jobs, SlurmError, check_slurm
from dlm_bench.sweep.launch.task import Task, parts_of
from dlm_bench.sweep.plan import Plan
from dlm_bench.sweep.progress import SweepProgress
from dlm_bench.sweep.run import Executor

FILE_SECONDS = 1.0  # between two looks at the results file
JOBS_SECONDS = 10.0  # and at the jobs: Slurm's controller answers all of a cluster


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
    with jobs.alone():
        # In this order: a job that ends in between has its records in the file.
        names = plan.identities()
        live = jobs.live() if args.resume else []
        mine = [job for job in live if set(names) & set(job.task.points)]
        start = size_of(output)
        found = plan.best_of(find_records(args, [plan], output))
        taken = {*found, *(name for job in mine for name in job.task.points)}
        for job in mine:
            print(f"job {job.number} of an earlier submission goes on ({job.state.lower()})")
        parts = parts_of(
            plan, [i for i, name in enumerate(names) if name not in taken], args.points_per_job
        )
        copy = jobs.keep(args.file) if parts else args.file
        for part in parts:
            task = Task(
                sweep=copy,
                overrides=overrides | {"base_folder": str(Path(args.file).absolute().parent)},
                points=[names[index] for index in part],
                output=output,
                start=start,
                limits=[r for r in found.values() if r.status in ("oom", "timeout")],
                worker=list(executor.command),
            )
            mine.append(jobs.submit(task, plan.sweep.name, options))
            print(f"job {mine[-1].number} submitted: {counted(len(part), 'point')}", flush=True)
    if args.no_wait:
        return 0
    return _wait(plan, jobs, mine, found, output, start)


def _wait(
    plan: Plan,
    jobs: Jobs,
    mine: list[Job],
    found: dict[str, Record],
    output: Path,
    start: int,
) -> int:
    """Wait until every point of these jobs has a record or they are over, and print the summary."""
    records = [*found.values()]
    wanted = {name for job in mine for name in job.task.points}
    lacking = wanted & set(plan.identities()) - set(found)
    try:
        with SweepProgress(plan, found) as progress:
            _follow(plan, jobs, mine, records, lacking, output, start, progress)
    except KeyboardInterrupt as interrupt:
        numbers = " ".join(job.number for job in mine)
        print(
            f"dlm-bench: interrupted; the jobs go on, and --resume waits for them again "
            f"(to end them: scancel {numbers})",
            file=sys.stderr,
        )
        return exit_code(interrupt)
    code = conclude([plan], records, len(records) - len(found), output)
    kinds = sorted({r.environment["hardware"] for r in records if "hardware" in r.environment})
    if len(kinds) > 1:
        print(
            f"dlm-bench: warning: the records are of different hardware: {'; '.join(kinds)}; "
            "--slurm constraint=NAME, partition=NAME or nodelist=NAME asks for one kind",
            file=sys.stderr,
        )
    for job in mine:
        missing = [name for name in job.task.points if name in lacking]
        if missing:
            print(
                f"dlm-bench: job {job.number} left {len(missing)} of {len(job.task.points)} points "
                f"without a record, which --resume submits again; {jobs.end_of(job)}",
                file=sys.stderr,
            )
    return 3 if lacking else code


def _follow(
    plan: Plan,
    jobs: Jobs,
    mine: list[Job],
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

"""`sweep --launcher`: a sweep on several GPUs, or in the jobs of a cluster."""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlm_bench.errors import ConfigError, unknown

if TYPE_CHECKING:
    from dlm_bench.results.record import Record
    from dlm_bench.sweep.launch.slurm import Job, Jobs
    from dlm_bench.sweep.plan import Plan
    from dlm_bench.sweep.progress import SweepProgress

LAUNCHERS = ("local", "slurm")
FILE_SECONDS = 1.0  # between two looks at the results file
JOBS_SECONDS = 10.0  # and at the jobs: Slurm's controller answers all of a cluster


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Where the points are measured, if not one after the other here."""
    group = parser.add_argument_group("many GPUs")
    group.add_argument(
        "--launcher",
        metavar="local|slurm",
        help="local: at once on all visible GPUs; slurm: in jobs, a job for the points of a model",
    )
    group.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a long option of sbatch, as partition=gpu, gpus-per-node=1 or time=8:00:00, or "
        "setup=COMMAND to run before; may be repeated",
    )
    group.add_argument(
        "--points-per-job", type=int, metavar="N", help="slurm: at most N points a job"
    )
    group.add_argument(
        "--no-wait", action="store_true", help="slurm: submit the jobs and leave them alone"
    )


def check_launcher(args: argparse.Namespace) -> None:
    """Raise ConfigError for arguments that do not go together."""
    if args.launcher is not None and args.launcher not in LAUNCHERS:
        raise unknown("--launcher", args.launcher, LAUNCHERS)
    if args.launcher is not None and args.budget is not None:
        raise ConfigError(
            "--budget: is not allowed with --launcher; a budget is one worker's time, and is spent "
            "by what all points have come to"
        )
    if args.points_per_job is not None and args.points_per_job < 1:
        raise ConfigError(
            f"--points-per-job: {args.points_per_job} is not allowed; must be an integer >= 1"
        )
    given = {
        "--slurm": args.slurm,
        "--points-per-job": args.points_per_job,
        "--no-wait": args.no_wait,
    }
    for name, value in given.items():
        if value and args.launcher != "slurm":
            raise ConfigError(f"{name}: is not allowed without --launcher slurm")


def conclude(plan: "Plan", records: "list[Record]", appended: int, output: Path) -> int:
    """Print what a sweep came to, of which it appended this many records itself; 3 if a point has
    no ok record."""
    from dlm_bench.cli.terminal import print_throughput

    print_throughput(records)
    print(f"{appended} records appended to {output}")
    best = plan.best_of(records)
    ok = [record for record in best.values() if record.status == "ok"]
    contended = sum("contended" in record.flags for record in ok)
    if 2 * contended > len(ok):
        print(
            f"dlm-bench: {contended} of {len(ok)} points were contended: other processes used the "
            "CPU meanwhile; measure them again on an idle machine",
            file=sys.stderr,
        )
    if len(ok) < len(best):
        print(
            f"dlm-bench: {len(best) - len(ok)} of {len(best)} points failed or were skipped",
            file=sys.stderr,
        )
    return 3 if len(ok) < len(best) else 0


def sweep_on_slurm(args: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Submit the points of a file that are neither found nor in the jobs of an earlier submission,
    and wait for all of them; 3 if any has no ok record."""
    from dlm_bench.cli.terminal import print_found, print_plan
    from dlm_bench.results.store import check_writable, size_of
    from dlm_bench.sweep.file import find_sweep
    from dlm_bench.sweep.launch.slurm import Jobs, check_slurm, slurm_options
    from dlm_bench.sweep.launch.task import Task, parts_of
    from dlm_bench.sweep.run import Executor

    options = slurm_options(args.slurm)
    args.file = find_sweep(args.file)
    if not args.dry_run:
        check_slurm()
    with Executor() as executor:
        # The machine that submits may have neither the GPU nor the kernels that the jobs find.
        plan = executor.plan(args.file, here=False, **overrides)
    output = (args.output or Path("results") / f"{plan.sweep.name}.jsonl").absolute()
    if args.dry_run:
        print_plan(plan.sweep)
        found = plan.found_in(output) if args.resume else {}
        missing = [i for i, name in enumerate(plan.identities()) if name not in found]
        print(f"{len(parts_of(plan, missing, args.points_per_job))} jobs for {len(missing)} points")
        return 0
    check_writable(output)
    jobs = Jobs(output)
    with jobs.alone():
        # In this order: a job that ends in between has its records in the file.
        names = plan.identities()
        live = jobs.live() if args.resume else []
        mine = [job for job in live if set(names) & set(job.task.points)]
        start = size_of(output)
        found = plan.found_in(output) if args.resume else {}
        if args.resume:
            print_found(plan, found, output, args.retry_failed)
        if args.retry_failed:
            found = {key: record for key, record in found.items() if record.status == "ok"}
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
                overrides=overrides | {"beside": str(Path(args.file).absolute().parent)},
                points=[names[index] for index in part],
                output=output,
                start=start,
                limits=[r for r in found.values() if r.status in ("oom", "timeout")],
                worker=list(executor.command),
            )
            mine.append(jobs.submit(task, plan.sweep.name, options))
            print(f"job {mine[-1].number} submitted: {len(part)} points", flush=True)
    if args.no_wait:
        return 0
    return _wait(plan, jobs, mine, found, output, start)


def _wait(
    plan: "Plan",
    jobs: "Jobs",
    mine: "list[Job]",
    found: "dict[str, Record]",
    output: Path,
    start: int,
) -> int:
    """Wait until every point of these jobs has a record or they are over, and tell how it went."""
    from dlm_bench.sweep.progress import SweepProgress

    records = [*found.values()]
    wanted = {name for job in mine for name in job.task.points}
    lacking = wanted & set(plan.identities()) - set(found)
    try:
        with SweepProgress(plan, found) as progress:
            _follow(plan, jobs, mine, records, lacking, output, start, progress)
    except KeyboardInterrupt:
        numbers = " ".join(job.number for job in mine)
        print(
            f"dlm-bench: interrupted; the jobs go on, and --resume waits for them again "
            f"(to end them: scancel {numbers})",
            file=sys.stderr,
        )
        return 130
    code = conclude(plan, records, len(records) - len(found), output)
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
    plan: "Plan",
    jobs: "Jobs",
    mine: "list[Job]",
    records: "list[Record]",
    lacking: set[str],
    output: Path,
    read: int,
    progress: "SweepProgress",
) -> None:
    """Collect the records of the points that lack one, until none does or these jobs are over."""
    from dlm_bench.results.store import read_appended
    from dlm_bench.sweep.launch.slurm import SlurmError

    places = {name: index for index, name in enumerate(plan.identities())}
    states = {job.number: job.state for job in mine}
    looked = -JOBS_SECONDS
    while lacking and states:
        if time.monotonic() - looked >= JOBS_SECONDS:
            looked = time.monotonic()
            try:
                states = {j.number: j.state for j in jobs.live() if j.number in states}
                counts = Counter(states.values())
                told = [f"{count} {state.lower()}" for state, count in sorted(counts.items())]
                progress.tell(f"jobs: {', '.join(told) or 'none left'}")
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

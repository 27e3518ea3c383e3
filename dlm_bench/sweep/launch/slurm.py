"""Submission of a sweep to Slurm by submitit, and the state of the jobs.

Beside the results file OUTPUT lies the folder OUTPUT.jobs, with the logs of submitit and the jobs,
and a file for each task, written before the submission. The name of this file is a part of the
job's name. So Slurm alone knows all jobs of a results file, even if the submitter is gone.
"""

import io
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm_bench.errors import ConfigError, DlmBenchError, first_line
from dlm_bench.results.files import write_file
from dlm_bench.results.store import locked
from dlm_bench.sweep.launch.task import Task, do_task

PREFIX = "dlm-bench"
ALIASES = {"timeout-min": "time"}  # submitit's word
SINGLE_PROCESS_OPTIONS = ("nodes", "ntasks", "ntasks-per-node", "tasks-per-node")
RESERVED_OPTIONS = ("job-name", "array", "output", "error")
COMMANDS = ("sbatch", "squeue", "scontrol")
ANSWER_SECONDS = 60.0  # that Slurm's commands may take


class SlurmError(DlmBenchError):
    """An unexpected failure of Slurm or submitit."""


@dataclass(frozen=True)
class Job:
    """A waiting or running job of a results file: number, Slurm's word for the state, name and
    task."""

    number: str
    state: str
    name: str
    task: Task


class Jobs:
    """The jobs of a results file."""

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f"{output.name}.jobs").absolute()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock out other submitters of the same results file, so no points are submitted twice."""
        lock = self.folder / "lock"
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                with locked(fd):
                    if not lock.exists() or not os.path.samestat(os.fstat(fd), lock.stat()):
                        continue  # the last one there removed the folder just now
                    try:
                        yield
                    finally:
                        if not any(self.folder.glob(f"{PREFIX}-*.json")):  # no job was submitted
                            shutil.rmtree(self.folder)
                    return
            finally:
                os.close(fd)

    def live(self) -> list[Job]:
        """Return the jobs that wait or run. Raises SlurmError without an answer of Slurm."""
        jobs = []
        for line in _ask("squeue", "--me", "--noheader", "--format=%A|%T|%j").splitlines():
            number, state, name = line.split("|", 2)
            file = self._task_file(name)
            if name.startswith(f"{PREFIX}-") and file.exists():
                jobs.append(Job(number, state, name, Task.model_validate_json(file.read_text())))
        return jobs

    def keep(self, sweep: Path) -> Path:
        """Copy a sweep file for the jobs: the file may be changed while they wait."""
        copy = self.folder / f"{uuid.uuid4().hex[:8]}-{sweep.name}"
        shutil.copyfile(sweep, copy)
        return copy

    def submit(self, task: Task, sweep: str, options: dict[str, Any]) -> Job:
        """Submit a job for a task of the sweep of this name. Raises SlurmError if Slurm refuses."""
        name = f"{PREFIX}-{sweep}-{uuid.uuid4().hex[:12]}"
        file = self._task_file(name)
        write_file(file, task.model_dump_json(), "task")
        executor = _submitit().SlurmExecutor(self.folder)
        try:
            # Without srun, whose steps do not get all the CPUs of the job unless they are told to.
            executor.update_parameters(
                **options, job_name=name, use_srun=False, stderr_to_stdout=True
            )
            # submitit prints what its exception says, too.
            with redirect_stderr(io.StringIO()), _without(_overriding(options)):
                job = executor.submit(do_task, file)
        except Exception as error:  # of many kinds; a job that there is in spite of it has no task
            file.unlink()
            raise SlurmError(f"the job was not submitted: {first_line(error)}") from None
        return Job(job.job_id, "PENDING", name, task)

    def end_of(self, job: Job) -> str:
        """Say in a few words how a job ended: Slurm's word, if still known, and the last line of
        the log."""
        try:
            answer = _ask("scontrol", "show", "job", job.number, "--oneliner")
        except SlurmError:
            answer = ""  # Slurm forgets a job some minutes after the end
        words = dict(word.split("=", 1) for word in answer.split() if "=" in word)
        log = self.folder / f"{job.number}_0_log.out"
        try:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            lines = []
        last = f": {lines[-1].strip()}" if lines else ""
        return f"{words.get('JobState', 'over')}{last} (log: {log})"

    def _task_file(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def check_slurm() -> None:
    """Raise ConfigError or SlurmError unless this machine can submit jobs."""
    _submitit()
    for command in COMMANDS:
        if shutil.which(command) is None:
            raise SlurmError(
                f"Slurm is not here: there is no {command}; submit from a machine of the cluster"
            )


def slurm_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return submitit's arguments for texts KEY=VALUE or KEY: the long options of sbatch, checked
    by sbatch itself, and `setup`, a shell command to run before. Raises ConfigError for a text that
    is neither."""
    flags: dict[str, Any] = {}
    setup: list[str] = []
    for text in texts:
        name, equals, value = text.partition("=")
        key = name.strip("-").replace("_", "-")
        if not key or bool(equals) != bool(value):
            raise ConfigError(f"--slurm: {text!r} is not allowed; must be KEY=VALUE or KEY")
        if key == "setup":
            setup.append(value)
            continue
        key = ALIASES.get(key, key)
        if key in RESERVED_OPTIONS:
            raise ConfigError(f"--slurm: {text!r} is not allowed; dlm-bench sets {key} itself")
        if key in SINGLE_PROCESS_OPTIONS and value != "1":
            raise ConfigError(f"--slurm: {text!r} is not allowed; a job is one process on one node")
        if key in flags:
            raise ConfigError(f"--slurm: {text!r} is not allowed; {key} is {flags[key]!r} already")
        flags[key] = value if equals else True
    # Without a time the partition's limit holds; submitit's own would be 5 minutes.
    return {"time": None, "setup": setup, "additional_parameters": flags}


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise ConfigError("--launcher: 'slurm' needs submitit (pip install submitit)") from None
    return submitit


def _overriding(options: dict[str, Any]) -> set[str]:
    """Return the environment variables that sbatch would prefer to the given options."""
    names = {*RESERVED_OPTIONS, *options["additional_parameters"]} - {"time", "array"}
    return {
        *(f"SBATCH_{name.upper().replace('-', '_')}" for name in names),
        "SBATCH_TIMELIMIT",
        "SBATCH_ARRAY_INX",
    }


@contextmanager
def _without(names: Iterable[str]) -> Iterator[None]:
    """Take these variables out of the environment."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _ask(*command: str) -> str:
    """Return the output of a command of Slurm, about all jobs whatever the environment selects.

    Raises SlurmError.
    """
    environment = {name: v for name, v in os.environ.items() if not name.startswith("SQUEUE_")}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=True,
            env=environment,
        )
    except FileNotFoundError:
        raise SlurmError(f"Slurm is not here: there is no {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} gave no answer within {ANSWER_SECONDS:g} s") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        raise SlurmError(lines[0] if lines else f"{command[0]} failed") from None
    return done.stdout

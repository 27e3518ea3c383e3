#!/usr/bin/env python3
"""Everything that needs a GPU, in one run of under 8 minutes without a network:

    python3 bench/gpu_check.py OUTPUT [--wheels WHEELS] [--resume EARLIER] [--stages NAME...]
        [--archive FOLDER]

It needs python3 with torch >= 2.11 and triton. What else that python lacks comes from WHEELS, a
folder that bench/gpu_wheels.sh fills on a machine with a network, into a temporary folder. OUTPUT
gets what each stage writes, its log, summary.txt, and Triton's cache, all as it arises; FOLDER the
same after each stage in two small archives. EARLIER is the OUTPUT, or the FOLDER, of a run that was
cut short: what was ok is not run again, and what was begun goes on.
docs/gpu.md says what each stage tells. Figures and floors are made afterwards, anywhere:

    python3 bench/gpu_check.py OUTPUT --figures
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Collection
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "bench"
SECONDS = 470.0  # of all stages; one that is interrupted at the end has 10 more to say why
CACHE = "triton-cache.tar.xz"  # in OUTPUT: the compiled kernels, and what was tuned
RECORDS = "gpu-check.jsonl"
LONGEST = "backbone=diffutran sampler=full length=131072"
ARCHIVE = "records.tar.xz"  # in FOLDER: all but the cache

sys.path.insert(0, str(BENCH))
from stages import Check, Stage, statuses  # noqa: E402


def stages(output: Path, jobs: int, device: str = "cuda", size: str = "1.3b") -> list[Stage]:
    """The stages by value: what is known earlier is worth more, and later ones use it."""

    def script(name: str, *arguments: object) -> tuple[str, ...]:
        return (sys.executable, str(BENCH / name), *map(str, arguments))

    def watched(name: str, rows: Path, *arguments: object) -> tuple[str, ...]:
        return script("watched.py", "--output", rows, name, *place, *arguments)

    place = ("--device", device, "--size", size)
    ceilings, kernels = output / "ceilings.json", output / "kernels.jsonl"
    profile, exact = output / "profile.jsonl", output / "exact.jsonl"
    libraries, field = output / "libraries.jsonl", output / "kernels-field.jsonl"
    sweep = ("gpu_sweep.py", "--output", output / RECORDS, "--kernels", kernels)
    sweep += ("--device", device)
    tests = ROOT / "tests" / "gpu"
    agreement = (tests / "test_models.py", tests / "test_float32.py")
    pytest = (sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider")
    pytest += ("--tb=short", "-rf")
    return [
        # What this python has: one start for all, which the others need.
        Stage("imports", 150, script("gpu_imports.py", device), vital=True, again=True),
        # Every kernel of all passes, without the GPU, beside what needs no Triton.
        Stage("compile", 75, script("precompile.py", "--jobs", jobs), beside=True),
        # What libraries reach: the roofline, and the matmuls of 32 tokens.
        Stage(
            "libraries",
            45,
            script("library_speeds.py", *place, "--output", libraries, "--ceilings", ceilings),
        ),
        # Each operation: right or wrong, and its distance from the floor. Decides what is used.
        Stage(
            "kernels",
            120,
            watched("kernel_floors.py", kernels, "--ceilings", ceilings),
            after=("compile",),
        ),
        # Where the time of a pass goes.
        Stage("profile", 45, watched("pass_profile.py", profile, "--kernels", kernels)),
        # The sampled mode against whole decodes: may the sweep's numbers be believed.
        Stage(
            "exact",
            45,
            watched("sampled_on_gpu.py", exact, "--kernels", kernels),
        ),
        # The paper's comparisons, the headline first.
        Stage("sweep", 260, script(*sweep, "gpu_first")),
        # Whole decodes: captured ones as eager ones, their tokens, and their memory.
        Stage("tests", 75, (*pytest, str(tests / "test_decodes.py"))),
        # DiffuTran over the whole of the longest sequence: a pass takes nine seconds.
        Stage(
            "longest",
            110,
            script(*sweep, "gpu_check", "--only", LONGEST, "--timeout", "100s"),
        ),
        # What a second run is for, if there is no time: every pass against float32, and the rest
        # of the paper.
        # The operations of the field's models, which the sweep above has none of.
        Stage("field", 60, watched("kernel_floors.py", field, "--field")),
        Stage("agreement", 150, (*pytest, *map(str, agreement))),
        Stage("rest", 300, script(*sweep, "gpu_check")),
    ]


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    if args.figures:
        return figures(args.output)
    output, earlier = args.output.resolve(), args.resume and args.resume.resolve()
    if earlier and not any((earlier / name).exists() for name in ("stages.jsonl", ARCHIVE)):
        sys.exit(f"gpu_check: --resume: {earlier} holds no run; name the OUTPUT of an earlier one")
    if (output / "stages.jsonl").exists() and earlier != output:
        sys.exit(
            f"gpu_check: {output} holds a run already; name a new folder, or --resume {output}"
        )
    output.mkdir(parents=True, exist_ok=True)
    chosen = stages(output, args.jobs)
    names = [stage.name for stage in chosen]
    wanted = args.stages or os.environ.get("STAGES", "").split()
    unknown = [name for name in wanted if name not in names]
    if unknown:
        sys.exit(f"gpu_check: no stage {unknown[0]!r}; there are {', '.join(names)}")
    if wanted:
        chosen = [stage for stage in chosen if stage.name in wanted or stage.vital]
    before: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        cache, site = Path(temporary) / "triton", Path(temporary) / "site"
        if earlier:
            take_over(earlier, output, cache)
            before = {} if wanted else statuses(output)
        if args.wheels:
            extract_missing(args.wheels.resolve(), site)
        keeper = Keeper(lambda: keep(cache, output, args.archive and args.archive.resolve()))
        try:
            ok = Check(
                output,
                chosen,
                args.seconds,
                cwd=ROOT,
                variables=environment(cache, site),
                before=before,
                kept=keeper.begin,
            ).run()
        finally:  # before the temporary folder goes
            keeper.finish()
    print(f"\n{(output / 'summary.txt').read_text()}", end="")
    return 0 if ok else 1


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("output", type=Path, metavar="OUTPUT", help="write everything here")
    found.add_argument("--wheels", type=Path, help="take what python lacks from this folder")
    found.add_argument("--resume", type=Path, metavar="EARLIER", help="go on with this OUTPUT")
    found.add_argument(
        "--archive", type=Path, metavar="FOLDER", help="put all but the cache into one file there"
    )
    found.add_argument("--stages", nargs="+", metavar="NAME", help="run these alone ($STAGES)")
    found.add_argument("--seconds", type=float, default=SECONDS, help="of all (default 470)")
    found.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="compilers (default: cores)"
    )
    found.add_argument(
        "--figures", action="store_true", help="draw what OUTPUT holds, without a GPU"
    )
    return found


def environment(cache: Path, site: Path) -> dict[str, str]:
    """The variables of all stages."""
    paths = [ROOT, BENCH, ROOT / "tests", site]
    found = {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONUNBUFFERED": "1",
        "TRITON_CACHE_DIR": str(cache),
        "TRITON_CACHE_AUTOTUNING": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # whatever that python has installed
    }
    if not os.environ.get("DLM_BENCH_COMMIT"):
        git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        try:
            done = subprocess.run(git, capture_output=True, text=True, check=True)
            found["DLM_BENCH_COMMIT"] = done.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            print(
                "gpu_check: no commit is known here, nor will be in the records: set "
                "DLM_BENCH_COMMIT",
                file=sys.stderr,
            )
    return found


def extract_missing(wheels: Path, site: Path) -> None:
    """Extract the wheels of packages that this python lacks, so as not to hide those it has."""
    site.mkdir()
    for wheel in sorted(wheels.glob("*.whl")):
        try:
            version(wheel.name.partition("-")[0])
        except PackageNotFoundError:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)


def take_over(earlier: Path, output: Path, cache: Path) -> None:
    """Copy what an earlier run wrote, which its stages go on from, and unpack its cache."""
    if earlier != output:
        shutil.copytree(earlier, output, dirs_exist_ok=True)
    if (output / ARCHIVE).exists():
        with tarfile.open(output / ARCHIVE) as archive:
            archive.extractall(output, filter="data")
    if (output / CACHE).exists():
        with tarfile.open(output / CACHE) as archive:
            archive.extractall(cache, filter="data")


class Keeper:
    """Keeps what there is while the next stage runs: to pack the cache takes seconds."""

    def __init__(self, keep: Callable[[], None]) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._again = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin at once, or when what is being packed is packed."""
        with self._lock:
            self._again = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run)
                self._thread.start()

    def finish(self) -> None:
        """Keep all that there is."""
        self.begin()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._again:
                    self._thread = None
                    return
                self._again = False
            with suppress(OSError):  # a full disk takes no stage with it
                self._keep()


def keep(cache: Path, output: Path, folder: Path | None) -> None:
    """Put what Triton has compiled and tuned so far into the output, and both into `folder`: the
    records first, as the cache takes longer."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        pack(output, folder / ARCHIVE, without=(CACHE, ARCHIVE))
    if cache.exists():
        pack(cache, output / CACHE)
    if folder is not None and folder != output and (output / CACHE).exists():
        new = unfinished(folder / CACHE)
        shutil.copy(output / CACHE, new)
        new.replace(folder / CACHE)


def unfinished(archive: Path) -> Path:
    """The file that becomes the archive when it is whole."""
    return archive.with_suffix(".new")


def pack(source: Path, target: Path, without: Collection[str] = ()) -> None:
    """Write the files of a folder into an archive, in the place of the last one. A file that goes
    meanwhile, as those do that a compiler is writing, is left out, and an unfinished archive."""
    new = unfinished(target)
    without = {*without, *(unfinished(Path(name)).name for name in (CACHE, ARCHIVE))}
    with tarfile.open(new, "w:xz", preset=1) as archive:
        for path in sorted(source.rglob("*")):
            name = path.relative_to(source)
            if path.is_file() and name.parts[0] not in without and "tmp.pid" not in str(name):
                with suppress(FileNotFoundError):
                    archive.add(path, arcname=str(name), recursive=False)
    new.replace(target)


def figures(output: Path) -> int:
    """Draw the figures of a run's records, and print how far its passes are from the floor."""
    command = [sys.executable, "-m", "dlm_bench", "plot", str(output / RECORDS)]
    command += ["--output", str(output / "figures")]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    command = [sys.executable, str(BENCH / "pass_floors.py"), str(output / RECORDS)]
    command += ["--hardware", str(output / "ceilings.json")]
    return code or subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

"""Measure the items of a script one after the other, in a worker that is watched:

    python bench/watched.py --output FILE.jsonl kernel_floors.py [options of the script]

An item has its rows in the output, or one with the status `raised` and the reason: an item that
hangs, or whose fault ends the worker, too. A new worker goes on with the next. What is ok in the
output is not measured again. This process loads no torch, so that it starts at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rows import append, rows_of

from dlm_bench.errors import first_line
from dlm_bench.sweep.worker import server
from dlm_bench.sweep.worker.process import WorkerFailure, WorkerProcess

BENCH = Path(__file__).resolve().parent
SECONDS = 25.0  # of an item, besides compiling
WORKER = "--worker"

Row = dict[str, Any]
Event = dict[str, Any]
Events = Callable[[list[Row]], Iterator[Event]]  # of the items that have no such row


@dataclass(frozen=True)
class Ended:
    """The rows of an item, none of items that nothing could measure, and the lines that show
    them."""

    rows: list[Row]
    text: str


def begun(item: Row) -> Event:
    """The event of an item that is next, by what its rows will tell of it."""
    return {"item": item}


def ended(rows: Sequence[Row], text: str, *, broken: bool = False) -> Event:
    """The event of its end; broken: this process can measure no more."""
    return {"rows": list(rows), "text": text, "broken": broken}


def raised(item: Row, message: str, *, broken: bool = False) -> Event:
    """The event of an item that has a reason instead of its rows."""
    names = (each for each in item.values() if isinstance(each, str) and each)
    row = {**item, "status": "raised", "message": message}
    return ended([row], f"{' '.join(names)}: {message}", broken=broken)


def reason_of(error: Exception) -> str:
    """The error by its type and first line."""
    return f"{type(error).__name__}: {first_line(error)}"


def serve(events: Events, arguments: list[str]) -> None:
    """Be a worker: answer each question with the next event."""

    def open_server() -> server.Answer:
        made: list[Iterator[Event]] = []

        def answer(job: dict[str, Any]) -> Event:
            if not made:
                made.append(events(job["done"]))
            return next(made[0], {})

        return answer

    server.serve(open_server, arguments)


def main_of(
    parser: argparse.ArgumentParser,
    events: Callable[[argparse.Namespace, list[Row]], Iterator[Event]],
    heading: str = "",
) -> int:
    """Run a script of items by its options: as a worker, or all of them in this process under a
    heading. Returns the exit code."""
    parser.add_argument(WORKER, action="store_true", help=argparse.SUPPRESS)
    args, others = parser.parse_known_args()
    if args.worker:
        serve(partial(events, args), others)
        return 0
    args = parser.parse_args()  # says what it does not know
    if heading:
        print(heading)
    return here(partial(events, args), args.output)


def here(events: Events, output: Path | None) -> int:
    """Measure items in this process. Returns the exit code."""
    found = (each for each in events(done_in(output)) if "rows" in each)
    return report((Ended(each["rows"], each["text"]) for each in found), output)


def watched(
    command: Sequence[str], done: Sequence[Row], seconds: float = SECONDS
) -> Iterator[Ended]:
    """Measure the items that are not done in workers that the command starts.

    A replacement that names no item ends the measuring, with a line. Raises WorkerFailure if the
    first worker ends before it names one.
    """
    known, named = list(done), False
    while True:
        worker, item, compiled = WorkerProcess(command), None, 0
        try:
            while True:
                event = worker.ask({"done": known}, seconds)
                for text in event["warnings"]:
                    print(text, flush=True)
                if "item" in event:
                    item, compiled, named = event["item"], kernels_on_disk(), True
                elif "rows" in event:
                    known.extend(event["rows"])
                    yield Ended(event["rows"], event["text"])
                    if event["broken"]:
                        break
                else:
                    return
        except WorkerFailure as failure:
            if item is None and not named:
                raise
            if item is None:
                yield Ended([], f"the rest: not measured, as no new worker starts: {failure}")
                return
            if failure.status == "timeout" and kernels_on_disk() > compiled:
                continue  # it compiled, and what is compiled stays
            event = raised(item, str(failure))
            known.extend(event["rows"])
            yield Ended(event["rows"], event["text"])
        finally:
            worker.stop()


def kernels_on_disk() -> int:
    """The number of kernels in Triton's cache."""
    folder = os.environ.get("TRITON_CACHE_DIR")
    return len(list(Path(folder).iterdir())) if folder and Path(folder).is_dir() else 0


def is_ok(row: Row) -> bool:
    """Tell if an item's row is neither wrong nor raised."""
    return row.get("status", "ok") == "ok"


def done_in(output: Path | None) -> list[Row]:
    """The rows of what is not measured again."""
    return [row for row in rows_of(output) if is_ok(row)]


def report(ends: Iterator[Ended], output: Path | None) -> int:
    """Append the rows of the items as they end, and print them. Returns the exit code."""
    failed = []
    for each in ends:
        append(output, *each.rows)
        print(each.text, flush=True)
        if not each.rows or not all(map(is_ok, each.rows)):
            failed.append(each.text.split("  ")[0].split(":")[0])
    if failed:
        print(f"{len(failed)} wrong or raised: {', '.join(dict.fromkeys(failed))}")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="append the rows here")
    parser.add_argument("script", help="in this folder")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="of the script")
    args = parser.parse_args()
    command = (sys.executable, str(BENCH / args.script), *args.options, WORKER)
    try:
        return report(watched(command, done_in(args.output)), args.output)
    except WorkerFailure as failure:
        sys.exit(f"watched: {args.script} named nothing to measure: {failure}")


if __name__ == "__main__":
    sys.exit(main())

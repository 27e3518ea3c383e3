"""A script for bench/watched.py with items that come to no end of their own.

    python hanging_items.py NAME... --worker

Of the names `hang` sleeps, `crash` reads address 0, `break` leaves the process unable to go on, and
`unmade` sleeps before it has a name, `pid` tells the worker's process, and `fatal` leaves no GPU to
a new worker; any other has a row.
"""

import ctypes
import os
import sys
import time

from watched import WORKER, begun, ended, serve


def events(names, done):
    known = [item["name"] for item in done]
    if "fatal" in known:
        sys.exit("no CUDA-capable device is detected")
    for name in names:
        yield begun({"name": f"before {name}"})
        if name == "unmade" and "before unmade" not in known:
            time.sleep(600)
        if name in known or name == "unmade":
            continue
        yield begun({"name": name})
        if name == "hang":
            time.sleep(600)
        if name in ("crash", "fatal"):
            print("an illegal address", file=sys.stderr, flush=True)
            ctypes.string_at(0)
        if name == "pid":
            yield ended([{"name": name}], f"{os.getpid()} is the worker's")
            continue
        yield ended([{"name": name}], f"{name} is measured", broken=name == "break")


if __name__ == "__main__":
    at = sys.argv.index(WORKER)
    serve(lambda done: events(sys.argv[1:at], done), sys.argv[at + 1 :])

"""Records of imaginary measurements, and `dlm-bench compare` of two lists of them."""

from dlm_bench.cli import main
from dlm_bench.results.store import append_record
from support.records import make_record

STEADY = [1.0, 1.004, 0.997, 1.002, 0.999]
HERE = {
    "hardware": "imaginary, 2 threads",
    "threads": 2,
    "platform": "Linux-6.1",
    "commit": "aaaa",
    "dlm-bench": "0.1.0",
    "torch": "2.11.0",
}


def record(backbone="diffutran", scale=1.0, status="ok", environment=(), **changes):
    """A record of the common environment; `scale` times the steady seconds."""
    ok = status == "ok"
    return make_record(
        backbone,
        length=changes.pop("length", 64),
        point={"dtype": changes.pop("dtype", "float32")},
        status=status,
        message="" if ok else "no room",
        warmup=changes.pop("warmup", 3),
        repeats=5,
        nfe=8 if ok else None,
        seconds=[scale * each for each in STEADY] if ok else [],
        environment=HERE | dict(environment),
        **changes,
    )


def compare_records(folder, base, head, *options, runs=10):
    """The exit code of comparing two files that hold each of these records so many times."""
    paths = []
    for name, records in (("base", base), ("head", head)):
        paths.append(folder / f"{name}.jsonl")
        paths[-1].unlink(missing_ok=True)
        for _ in range(runs):
            for each in records:
                append_record(paths[-1], each)
    return main(["compare", *map(str, paths), *options])


BOTH = [record(), record("diffumamba")]
SLOWER = [record(), record("diffumamba", 1.1)]

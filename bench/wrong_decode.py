"""A fast decode that computes something else is named: a layer is skipped in head's models.

    python bench/wrong_decode.py

The same points are measured with the models of base and, with the second layer left out, of head.
`compare` and the report of `ab` get these records. Prints a line a point and the number named;
exits with 1 if any wrong decode is not named, or a right one is.
"""

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from dlm_bench import Record, append_record, build_model, build_sampler, measure
from dlm_bench.compare.ab.checkouts import Checkout
from dlm_bench.compare.ab.comparison import comparison_of, match
from dlm_bench.compare.ab.rounds import ABRun, RoundPlanner
from dlm_bench.compare.match import compare_all
from dlm_bench.compare.sequential import SequentialTest
from dlm_bench.plugins.api import Model

NOTE = "head decodes other tokens"
POINTS = [
    (backbone, sampler, mode)
    for backbone, samplers in {
        "diffutran": ("full", "fast-dllm", "block-cache"),
        "diffumamba": ("full", "fast-dllm", "block-cache"),
        "diffumamba-h": ("block-cache",),
        "ar-transformer": ("ar",),
        "ar-mamba": ("ar",),
    }.items()
    for sampler in samplers
    for mode in ("exact", "sampled")
]


def main(points: Iterable[tuple[str, str, str]] = POINTS) -> int:
    points = list(points)
    base, same, wrong = ([measured(*each, skip=skip) for each in points] for skip in (0, 0, 1))
    told = {"compare": named(base, wrong), "ab": named_by_ab(base, wrong)}
    false = {"compare": named(base, same), "ab": named_by_ab(base, same)}
    for i, record in enumerate(base):
        print(f"{record.point.describe():45} {record.mode:8} {told['compare'][i] or 'NOT NAMED'}")
    for command in told:
        print(
            f"{command}: {sum(map(bool, told[command]))} of {len(points)} wrong decodes named, "
            f"{sum(map(bool, false[command]))} of {len(points)} right ones"
        )
    return 0 if all(map(all, told.values())) and not any(map(any, false.values())) else 1


def measured(backbone: str, sampler: str, mode: str, skip: int) -> Record:
    """Measure a point of a small model; `skip` is 1 to leave the second layer out."""
    model = build_model(backbone, "tiny", device="cpu")
    if skip:
        skip_layer(model)
    settings = {"mode": mode, "warmup": 0, "repeats": 2, "max_seconds": 0.1}
    return measure(model, build_sampler(sampler), 96, **settings)  # type: ignore[arg-type]


def skip_layer(model: Model) -> None:
    """Let the second layer pass on what it gets."""
    layer = model.blocks[1]  # type: ignore[attr-defined]
    layer.forward = lambda *_, **__: None


def named(base: list[Record], head: list[Record]) -> list[bool]:
    """True for each point whose note in `dlm-bench compare` names other tokens."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "base.jsonl"), Path(folder, "head.jsonl")
        found = []
        for one, other in zip(base, head, strict=True):
            for path, record in zip(paths, (one, other), strict=True):
                path.unlink(missing_ok=True)
                append_record(path, record)
            (report,) = compare_all(paths[0], [paths[1]])
            found.append(NOTE in report.points[0].note)
    return found


def named_by_ab(base: list[Record], head: list[Record]) -> list[bool]:
    """The same of the report of `dlm-bench ab`."""
    found = []
    for one, other in zip(base, head, strict=True):
        run = ABRun(SequentialTest(1), RoundPlanner(1, 1.0), records=([one], [other]))
        both = Checkout("base", Path(), "base"), Checkout("head", Path(), "head")
        report = comparison_of(run, match([one.point], [other.point]), both, 0.05)
        found.append(NOTE in report.points[0].note)
    return found


if __name__ == "__main__":
    sys.exit(main())

"""The demo (`make demo`): a sweep, its figures and its report.

    python bench/demo.py [--output DIR] [--sweep FILE.toml]

It ends with a table, a sentence of what the records show, and the paths of a figure, the report and
the records. The sweep is bench/sweeps/quick.toml, or on a machine with a GPU quick_gpu.toml.
"""

import argparse
import contextlib
import io
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from dlm_bench.cli import main as dlm_bench
from dlm_bench.errors import ResultsError

SWEEPS = Path(__file__).resolve().parent / "sweeps"
CUDA = "import torch, sys; sys.exit(not torch.cuda.is_available())"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("demo"), metavar="DIR")
    parser.add_argument("--sweep", type=Path, metavar="FILE.toml", help="instead of the demo's")
    args = parser.parse_args(arguments)
    sweep = args.sweep or SWEEPS / ("quick_gpu.toml" if has_gpu() else "quick.toml")
    records, page = args.output / f"{sweep.stem}.jsonl", args.output / "report.html"
    records.unlink(missing_ok=True)
    code = dlm_bench(["sweep", str(sweep), "--output", str(records)])
    if code not in (0, 3):  # 3: some points failed, and the others are there
        return code
    figure = draw(records, args.output)
    with contextlib.redirect_stdout(io.StringIO()):  # which would say its path before the others
        reported = dlm_bench(["report", str(records), "--output", str(page)])
    if figure is None or reported:
        return code or reported
    print(f"{told(records)}\n")
    for name, path in (("figure", figure), ("report", page), ("records", records)):
        print(f"{name:8} {path}")
    return code


def has_gpu() -> bool:
    """Say whether torch sees a GPU; where there is no driver torch need not be asked."""
    if shutil.which("nvidia-smi") is None and not Path("/dev/nvidiactl").exists():
        return False
    return subprocess.run([sys.executable, "-c", CUDA], check=False).returncode == 0


def draw(records: Path, folder: Path) -> Path | None:
    """Draw the figures that the records allow; the path of the first PNG, None if there is none."""
    with contextlib.redirect_stdout(io.StringIO()) as paths:
        if dlm_bench(["plot", str(records), "--output", str(folder)]):
            return None
    return next(Path(path) for path in paths.getvalue().split("\n") if path.endswith(".png"))


def told(records: Path) -> str:
    """Say in a sentence which backbone gains most over DiffuTran at the longest length, and what
    it gains at the shortest."""
    from dlm_bench.analysis.speedup import speedups
    from dlm_bench.results.store import load_results

    frame = load_results(records)
    try:
        ratios = speedups(frame).dropna(subset=["speedup"])
    except ResultsError:
        ratios = pd.DataFrame()
    return best_of(ratios) if len(ratios) else "No point has one of DiffuTran to compare with."


def best_of(ratios: pd.DataFrame) -> str:
    """The sentence of `told`: of the longest length the speed-up that is surest to be large."""
    from dlm_bench.results.series import BACKBONE_NAMES, SAMPLER_NAMES

    longest = ratios[ratios.length == ratios.length.max()]
    best = longest.loc[longest.low.idxmax()]
    alike = ratios[(ratios.backbone == best.backbone) & (ratios["sampler"] == best["sampler"])]
    ends = [best] if len(alike) == 1 else [best, alike.loc[alike.length.idxmin()]]
    times = [
        f"{_ratio(end.speedup)} times as fast as DiffuTran at {end.length:,} tokens "
        f"({_ratio(end.low)} to {_ratio(end.high)})"
        for end in ends
    ]
    backbone = BACKBONE_NAMES.get(best.backbone, best.backbone)
    sampler = SAMPLER_NAMES.get(best["sampler"], best["sampler"])
    return f"{backbone}, {sampler}: {' and '.join(times)}."


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())

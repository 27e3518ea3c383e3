"""How far measured passes are from the roofline, and how much faster than DiffuTran they decode.

python bench/pass_floors.py RESULTS.jsonl [--hardware measured|ceilings.json]
"""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from dlm_bench.cost.hardware import Hardware
from dlm_bench.cost.roofline import find_hardware, utilisation
from dlm_bench.errors import DlmBenchError
from dlm_bench.models.own import OWN
from dlm_bench.results.store import load_results

SAMPLER = ["sampler", "tokens_per_step", "commit", "cache", "length"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS.jsonl")
    parser.add_argument(
        "--hardware",
        default="measured",
        help="a sheet, a file that library_speeds.py wrote, or measured (default)",
    )
    args = parser.parse_args()
    try:
        show(args)
    except DlmBenchError as error:
        sys.exit(f"pass_floors: {error}")


def show(args: argparse.Namespace) -> None:
    if args.hardware.endswith(".json"):
        hardware = Hardware(**json.loads(Path(args.hardware).read_text()))
    else:
        hardware = find_hardware(args.hardware)
    print(
        f"{hardware.name}: {hardware.peak / 1e12:.0f} TFLOP/s in {hardware.dtype}, "
        f"{hardware.bandwidth / 1e12:.2f} TB/s ({hardware.source})"
    )
    frame = load_results(*args.results)
    if not (frame.status == "ok").any():
        sys.exit("pass_floors: no point of these results was measured")
    print(floors(frame, hardware).to_string(index=False, float_format="{:.3f}".format))


def floors(frame: pd.DataFrame, hardware) -> pd.DataFrame:
    """A row a measured point: ms per pass, times its floor, and speed-up over DiffuTran.

    The speed-up is of tokens per second, at the same sampler, options and length.
    """
    rows = []
    for _, row in frame[frame.status == "ok"].iterrows():
        use = utilisation(row, hardware)
        rows.append(
            {name: row.get(name, "") for name in ["backbone", *SAMPLER]}
            | {
                "ms_per_pass": row.ms_per_pass,
                "x_floor": 1 / use.roofline,
                "mfu": use.mfu,
                "mbu": use.mbu,
                "tokens_per_second": row.tokens_per_second,
            }
        )
    table = pd.DataFrame(rows)
    table[SAMPLER] = table[SAMPLER].astype(object).where(table[SAMPLER].notna(), "")
    baseline = table[table.backbone == "diffutran"].set_index(SAMPLER).tokens_per_second
    baseline = baseline[~baseline.index.duplicated()]
    reference = table.set_index(SAMPLER).index.map(baseline)
    table["over_diffutran"] = table.tokens_per_second / pd.Series(reference, index=table.index)
    order = table.backbone.map(list(OWN).index)
    return table.assign(order=order).sort_values([*SAMPLER, "order"]).drop(columns="order")


if __name__ == "__main__":
    main()

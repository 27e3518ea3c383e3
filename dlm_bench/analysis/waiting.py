"""The passes that the blocks of a batch take, and the sequences that wait meanwhile."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlm_bench.analysis.tables import absent_lengths
from dlm_bench.errors import ResultsError
from dlm_bench.results.series import labelled, series_of, shared_settings
from dlm_bench.results.table import Cell, Number, Table

if TYPE_CHECKING:
    import pandas

_PASSES = {
    "passes": "passes a block",
    "passes_p10": "p10",
    "passes_p50": "p50",
    "passes_p90": "p90",
}


def waiting_table(frame: "pandas.DataFrame", at: Sequence[int] = ()) -> Table:
    """Return a row for each batch of each series, of the lengths `at` or all.

    Columns: passes over a block of a sequence, tokens of all sequences per forward pass, and the
    share of the sequences that had nothing to do in a pass.

    A length of `at` without records is noted; raises ResultsError if that is all, or if no record
    tells the passes.
    """
    found = series_of(frame, along="batch")
    absent = absent_lengths({each.settings["length"] for each in found}, at)
    drawn = [each for each in found if not at or each.settings["length"] in at]
    drawn = [each for each in drawn if any(row["blocks"] for row in each.rows)]
    rows: list[list[Cell]] = []
    for series in labelled(drawn):
        for row in series.rows:
            blocks = row["blocks"]
            if not blocks:
                continue
            passes = (Number(blocks[name], f"{blocks[name]:.4g}") for name in _PASSES)
            tokens, waited = blocks["tokens_per_forward"], blocks["waited"]
            rows.append(
                [
                    series.label,
                    Number(row["batch"], f"{row['batch']:,}"),
                    *passes,
                    Number(tokens, f"{tokens:.4g}"),
                    Number(waited, f"{waited:.1%}"),
                ]
            )
    if not rows:
        raise ResultsError(
            "waiting: no record tells the passes of its blocks; measure again: older ones have none"
        )
    titles: list[Cell] = ["series", "batch", *_PASSES.values(), "tokens/forward", "waited"]
    heading = ": ".join(filter(None, ["Passes and waiting", shared_settings(drawn)]))
    notes = [f"length {length}: not in the records" for length in absent]
    return Table(titles, rows, notes, heading)

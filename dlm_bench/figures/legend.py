"""The legend of series against length: a colour a backbone, a marker with dashes a variant."""

import math
import textwrap
from collections.abc import Iterable

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dlm_bench.figures import theme
from dlm_bench.figures.palette import SeriesStyle
from dlm_bench.results.series import BACKBONE_NAMES


def backbone_handles(backbones: Iterable[str], colours: dict[str, str]) -> list[Line2D]:
    """Return a thick bar of colour for each backbone."""
    return [
        Line2D([], [], color=colours[name], linewidth=2.5, label=BACKBONE_NAMES.get(name, name))
        for name in dict.fromkeys(backbones)
    ]


def layout(
    backbones: list[Line2D],
    styles: dict[str, SeriesStyle],
    others: list[Line2D],
    one_panel: bool,
) -> tuple[list[list[Line2D]], int]:
    """Return the groups of handles and the rows of a legend below panels: variants beside the
    backbones, or below them where that is less high, as with long names under a single panel."""
    beside = [backbones, variant_handles(styles, 29) + others]
    longest = max(map(len, beside))
    if not one_panel:
        return beside, max(3, math.ceil(longest / 2))
    below = [backbones + variant_handles(styles, 48) + others]
    rows = len(below[0])
    if text_lines(below, rows) < text_lines(beside, longest):
        return below, rows
    return beside, longest


def variant_handles(styles: dict[str, SeriesStyle], width: int) -> list[Line2D]:
    """Return a grey marker with dashes for each variant, its name in lines of `width` letters."""
    return [
        Line2D(
            [],
            [],
            color=theme.GREY,
            marker=style.marker,
            linestyle=style.dashes,
            label=textwrap.fill(variant, width, break_on_hyphens=False),
        )
        for variant, style in styles.items()
    ]


def sampled_handle() -> Line2D:
    """Return the legend entry of a hollow marker."""
    sampled = Line2D([], [], color=theme.GREY, marker="o", linestyle="none")
    sampled.set(markerfacecolor="white", label="sampled timing")
    return sampled


def text_lines(groups: Iterable[list[Line2D]], rows: int) -> int:
    """Count the lines of text in the highest column of a legend with `rows` rows."""
    columns = [group[i : i + rows] for group in groups for i in range(0, len(group), rows)]
    return max(
        rows + sum(str(handle.get_label()).count("\n") for handle in column) for column in columns
    )


def draw_legend(figure: Figure, groups: Iterable[list[Line2D]], rows: int) -> None:
    """Draw a legend below the panels; each group starts a column and fills columns of `rows`."""
    handles: list[Line2D] = []
    for group in groups:
        blanks = [Line2D([], [], linestyle="none", label=" ") for _ in range(-len(group) % rows)]
        handles += [*group, *blanks]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) // rows)

"""The legend of series against length: a colour a backbone, a marker with dashes a variant."""

import math
import textwrap
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dlm_bench.figures import theme
from dlm_bench.figures.palette import SeriesStyle
from dlm_bench.results.series import BACKBONE_NAMES

MOST_LINES = 10  # of a legend beside which a panel still is the larger part


def backbone_handles(backbones: Iterable[str], colours: dict[str, str]) -> list[Line2D]:
    """Return a thick bar of colour for each backbone."""
    return [
        Line2D([], [], color=colours[name], linewidth=2.5, label=BACKBONE_NAMES.get(name, name))
        for name in dict.fromkeys(backbones)
    ]


class Layout(NamedTuple):
    """Groups of handles, each of which starts a column of `rows`; wide: on a page's width."""

    groups: list[list[Line2D]]
    rows: int
    wide: bool

    @property
    def lines(self) -> int:
        """The lines of text in the highest column."""
        return text_lines(self.groups, self.rows)


def layout(
    backbones: list[Line2D],
    styles: dict[str, SeriesStyle],
    others: list[Line2D],
    one_panel: bool,
) -> Layout:
    """Return the legend below panels: variants beside the backbones, or below them where that is
    less high, as with long names under a single panel.

    Variants that need more than MOST_LINES so are named under what those of a sampler share, and if
    they still do, in columns over the width of a page.
    """
    beside = [backbones, variant_handles(styles, 29) + others]
    longest = max(map(len, beside))
    found = Layout(beside, longest if one_panel else max(3, math.ceil(longest / 2)), not one_panel)
    if one_panel:
        found = _lower(found, _in_columns(backbones + variant_handles(styles, 48) + others, 1))
        if found.lines > MOST_LINES:
            headed = backbones + headed_handles(styles, 48) + others
            found = _lower(found, _in_columns(headed, 1))
    longest_word = max(len(word) for variant in styles for word in variant.split())
    for columns, width in ((3, 33), (2, 52)):
        if found.lines > MOST_LINES and longest_word <= width:
            headed = backbones + headed_handles(styles, width) + others
            found = _lower(found, _in_columns(headed, columns))
    return found


def _in_columns(handles: list[Line2D], columns: int) -> Layout:
    return Layout([handles], math.ceil(len(handles) / columns), wide=columns > 1)


def _lower(one: Layout, other: Layout) -> Layout:
    return other if other.lines < one.lines else one


def headed_handles(styles: dict[str, SeriesStyle], width: int) -> list[Line2D]:
    """Return `variant_handles` with the settings shared by three or more variants of a sampler in a
    line above them instead of in each."""
    found = []
    for _, group in groupby(styles, key=lambda variant: variant.split(", ")[0]):
        variants = {variant: variant.split(", ") for variant in group}
        shared = [
            part
            for part in next(iter(variants.values()))
            if all(part in parts for parts in variants.values())
        ]
        names = {variant: variant for variant in variants}
        if len(variants) >= 3:
            found.append(_blank(textwrap.fill(f"{', '.join(shared)}:", width)))
            for variant, parts in variants.items():
                names[variant] = ", ".join(part for part in parts if part not in shared) or variant
        found += variant_handles({names[each]: styles[each] for each in variants}, width)
    return found


def _blank(text: str) -> Line2D:
    return Line2D([], [], linestyle="none", label=text)


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
        blanks = [_blank(" ") for _ in range(-len(group) % rows)]
        handles += [*group, *blanks]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) // rows)

"""The legend of lines against length: a colour a backbone, a marker with dashes a variant."""

import itertools
import textwrap
from collections.abc import Iterable

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dlm_bench.figures import theme
from dlm_bench.results.series import BACKBONE_NAMES, SAMPLER_NAMES, Line


def variant_styles(drawn: Iterable[Line]) -> dict[str, theme.LineStyle]:
    """The line style of each variant among the lines, in the order of the samplers.

    A sampler's first variant has the sampler's own style; the others (say, its other commits), and
    a user's own samplers, get a spare marker and spare dashes.
    """
    known = dict(theme.SAMPLER_STYLES)
    variants: dict[str, theme.LineStyle] = {}
    markers, dashes = itertools.cycle(theme.MORE_MARKERS), itertools.cycle(theme.MORE_DASHES)
    taken: set[str] = set()
    order = {name: place for place, name in enumerate(SAMPLER_NAMES)}
    for line in sorted(drawn, key=lambda line: order.get(line.sampler, len(order))):
        if line.variant in variants:
            continue
        if line.sampler not in known:
            known[line.sampler] = theme.LineStyle(next(markers), next(dashes))
        own = known[line.sampler]
        if line.sampler in taken:
            own = theme.LineStyle(next(markers), next(dashes))
        variants[line.variant] = own
        taken.add(line.sampler)
    return variants


def backbone_handles(backbones: Iterable[str], colours: dict[str, str]) -> list[Line2D]:
    """A thick bar of colour for each backbone."""
    return [
        Line2D([], [], color=colours[name], linewidth=2.5, label=BACKBONE_NAMES.get(name, name))
        for name in dict.fromkeys(backbones)
    ]


def variant_handles(styles: dict[str, theme.LineStyle]) -> list[Line2D]:
    """A grey line for each variant."""
    return [
        Line2D(
            [],
            [],
            color=theme.GREY,
            marker=look.marker,
            linestyle=look.dashes,
            label=textwrap.fill(variant, 29),
        )
        for variant, look in styles.items()
    ]


def sampled_handle() -> Line2D:
    """Return the legend's entry of a hollow marker."""
    sampled = Line2D([], [], color=theme.GREY, marker="o", linestyle="none")
    sampled.set(markerfacecolor="white", label="sampled timing")
    return sampled


def text_lines(groups: Iterable[list[Line2D]], rows: int) -> int:
    """Lines of text in the highest column of a legend whose columns have so many rows."""
    columns = [group[i : i + rows] for group in groups for i in range(0, len(group), rows)]
    return max(
        rows + sum(str(handle.get_label()).count("\n") for handle in column) for column in columns
    )


def draw_legend(figure: Figure, groups: Iterable[list[Line2D]], rows: int) -> None:
    """One legend below the panels; each group starts a column and fills columns of `rows`."""
    handles: list[Line2D] = []
    for group in groups:
        blanks = [Line2D([], [], linestyle="none", label=" ") for _ in range(-len(group) % rows)]
        handles += [*group, *blanks]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) // rows)

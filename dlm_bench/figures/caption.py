"""The caption of a figure: a text beside the picture, drawn into the picture on request."""

import textwrap

from matplotlib.figure import Figure

from dlm_bench.results.table import escape

SIZE = 6  # points
COLOUR = "#555555"


class CaptionedFigure(Figure):
    """A matplotlib Figure with a caption, which is not in the picture.

    caption: the sentences that explain the figure, as plain text.
    """

    caption = ""

    def draw_caption(self) -> None:
        """Draw the caption in small type above the panels, for which the figure gets higher."""
        characters = int(self.get_figwidth() * 72 / (SIZE * 0.58))
        lines = textwrap.wrap(self.caption, characters)
        self.set_figheight(self.get_figheight() + len(lines) * 1.2 * SIZE / 72)
        self.suptitle("\n".join(lines), fontsize=SIZE, color=COLOUR, x=0.01, ha="left")


def as_text(caption: str) -> str:
    """Return the caption as a text file."""
    return f"{textwrap.fill(caption, 100)}\n"


def as_latex(caption: str) -> str:
    """Return the caption as a LaTeX command, with special characters escaped."""
    return f"\\caption{{{escape(caption, 'latex')}}}\n"

"""The files of a figure: PDF and PNG, and the caption as text and LaTeX."""

import io
import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

from dlm_bench.figures import theme
from dlm_bench.figures.caption import CaptionedFigure, as_latex, as_text
from dlm_bench.results.files import write_file

FORMATS: dict[str, dict[str, Any]] = {
    "pdf": {"metadata": {"CreationDate": None}},
    "png": {"dpi": 300},
}


def save(figure: Figure, path: str | os.PathLike[str]) -> list[Path]:
    """Write `path`.pdf and `path`.png (300 dpi), and the caption to `path`.txt and `path`.tex, the
    same bytes in every run; return the paths.

    Create the folders. A Figure of your own has no caption. Raises ResultsError if a file cannot be
    written.
    """
    contents: dict[str, str | bytes] = dict(_pictures(figure))
    if isinstance(figure, CaptionedFigure):
        contents |= {"txt": as_text(figure.caption), "tex": as_latex(figure.caption)}
    files = []
    for suffix, content in contents.items():
        files.append(Path(path).with_name(f"{Path(path).name}.{suffix}"))
        write_file(files[-1], content, "figure")
    return files


def _pictures(figure: Figure) -> dict[str, bytes]:
    """Return the content of each format, all in one layout."""
    engine = figure.get_layout_engine()
    drawn = {}
    try:
        for kind, options in FORMATS.items():
            file = io.BytesIO()
            with theme.applied():
                _split_ligatures(figure)
                figure.savefig(file, format=kind, **options)
            figure.set_layout_engine("none")  # the layout of the first format serves all
            drawn[kind] = file.getvalue()
    finally:  # the caller may go on with the figure
        if engine is not None:
            figure.set_layout_engine(engine)
    return drawn


def _split_ligatures(figure: Figure) -> None:
    """Draw `ff` as two letters: a ligature costs a second embedded font in each PDF."""
    for text in figure.findobj(Text):
        if hasattr(text, "set_fontfeatures"):  # matplotlib before 3.11 has no ligatures
            text.set_fontfeatures(("-liga",))

"""`plot`: draw figures of results."""

import argparse
import gc
import inspect
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dlm_bench.cost.roofline import find_hardware
from dlm_bench.errors import ConfigError, ResultsError, unknown
from dlm_bench.figures import FIGURES, NAMES, NotDrawnWarning, draw_free, save
from dlm_bench.results.selection import selected
from dlm_bench.results.series import check_sampler
from dlm_bench.results.store import frame_of


def plot(args: argparse.Namespace) -> int:
    """Draw the figures possible with the records, and name the gaps of the figures asked for.

    Without `--figure` a figure is asked for by an option of this figure alone.
    """
    gc.disable()  # a seventh of the time: subsets of fonts are many objects, and few are garbage
    try:
        return _plot(args)
    finally:
        gc.enable()


def _plot(args: argparse.Namespace) -> int:
    if args.x is not None or args.y is not None:
        return _plot_free(args)
    for name in ("curves", "panels", "name"):
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name}: is not allowed without --x and --y")
    if args.figure not in (*NAMES, "all"):
        raise unknown("--figure", args.figure, (*NAMES, "all"))
    chosen = {name: draw for name, draw in FIGURES.items() if args.figure in (name, "all")}
    taken = {name: inspect.signature(draw).parameters for name, draw in chosen.items()}
    options = _options(args, {option for parameters in taken.values() for option in parameters})
    takers = [[name for name in chosen if option in taken[name]] for option in options]
    frame = frame_of(selected(args.results, args.label, args.where))
    check_sampler(frame, args.sampler)
    problems, drawn = [], False
    for name, draw in chosen.items():
        asked = args.figure == name or [name] in takers
        own = {option: value for option, value in options.items() if option in taken[name]}
        try:
            with warnings.catch_warnings():
                if not asked:  # the caption names points left out
                    warnings.simplefilter("ignore", NotDrawnWarning)
                figure = draw(frame, **own)
        except ResultsError as error:
            problems.append((asked, f"figure {name!r}: {error}"))
            continue
        if args.caption:
            figure.draw_caption()
        drawn = True
        for path in save(figure, args.output / name):
            print(path)
    if not drawn:
        raise ResultsError(problems[0][1])
    for asked, problem in problems:
        if asked:
            print(f"dlm-bench: not drawn: {problem}", file=sys.stderr)
    return 0


def _plot_free(args: argparse.Namespace) -> int:
    """Draw the figure of --x and --y."""
    if args.x is None or args.y is None:
        raise ConfigError("--x: and --y belong together; give both")
    if args.figure != "all":
        raise ConfigError("--figure: is not allowed with --x and --y, which are a figure")
    name = args.name or f"{args.y}-{args.x}"
    if Path(name).name != name:
        raise ConfigError(f"--name: {name!r} is not allowed; must be the name of a file")
    frame = frame_of(selected(args.results, args.label, args.where))
    curves = None if args.curves is None else args.curves.split(",")
    figure = draw_free(frame, args.x, args.y, curves, args.panels)
    if args.caption:
        figure.draw_caption()
    for path in save(figure, args.output / name):
        print(path)
    return 0


def _options(args: argparse.Namespace, taken: Iterable[str]) -> dict[str, Any]:
    """Return the options given, by the names of the figures' parameters, hardware as its sheet.

    Raises ConfigError for an option of no figure.
    """
    given = {name: getattr(args, name) for name in ("sampler", "hardware", "predict")}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given.keys() - taken:
        raise ConfigError(f"--{name}: is not allowed with --figure {args.figure}")
    sheets: dict[str, Any] = {}
    for name in given.keys() & {"hardware", "predict"}:
        # Calibrated once, so that all figures show the same.
        sheet = given[name]
        sheets[sheet] = sheets.get(sheet) or find_hardware(sheet)
        given[name] = sheets[sheet]
    return given

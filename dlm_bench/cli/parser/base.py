"""The parser class of all commands."""

import argparse
from typing import Any, NoReturn

from dlm_bench.errors import did_you_mean


class Parser(argparse.ArgumentParser):
    """A parser of whole names with single-line errors, `--debug` and `--quiet`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        self.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show the traceback of an error",
        )
        self.add_argument(
            "--quiet",
            action="store_true",
            default=argparse.SUPPRESS,
            help="print results and errors only: no progress, notes or warnings",
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [] if action.choices is None else list(map(str, action.choices))
        if choices and value not in choices:
            hint = did_you_mean(str(value), choices)
            raise argparse.ArgumentError(
                action, f"{value!r} is not known{hint}; allowed: {', '.join(choices)}"
            )


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help with the metavar once for all names of an option, as from Python 3.13 on."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


Commands = argparse._SubParsersAction


def add_command(
    subparsers: Commands, name: str, help: str, description: str, example: str
) -> Parser:
    """Add the parser of a command, with an example at the end of the help."""
    parser: Parser = subparsers.add_parser(
        name,
        help=help,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(command=name, parser=parser)
    return parser

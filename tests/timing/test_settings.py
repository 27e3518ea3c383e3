"""The defaults of a measurement, which stand in one place and mean the same everywhere."""

import inspect
import subprocess
import sys
from dataclasses import asdict

import pytest

from dlm_bench.cli.parser import build_parser
from dlm_bench.results.identity import LEAST
from dlm_bench.sweep.file import File
from dlm_bench.sweep.load import Measuring
from dlm_bench.timing.measure import measure
from dlm_bench.timing.settings import DEFAULTS, OF_WHOLE_DECODES

PAPER = {"mode": "exact", "warmup": 3, "repeats": 5}


def of_command_line():
    args = build_parser().parse_args(["run", "diffutran", "full", "--length", "64"])
    return vars(args) | {"graphs": "auto" if args.graphs is None else args.graphs}


def of_signature(function):
    return {name: each.default for name, each in inspect.signature(function).parameters.items()}


def of_model(model):
    defaults = {name: field.default for name, field in model.model_fields.items()}
    return {name: each[0] if each == [0] else each for name, each in defaults.items()}


@pytest.mark.parametrize(
    "found",
    [
        of_signature(measure),
        of_model(File),
        of_model(Measuring),
        of_command_line(),
    ],
    ids=["measure", "sweep file", "sweep", "command line"],
)
def test_a_setting_has_the_same_default_wherever_it_is_given(found):
    settings = asdict(DEFAULTS)
    shared = settings.keys() & found.keys()
    assert shared >= PAPER.keys() | {"seed", "graphs"}
    assert {name: found[name] for name in shared} == {name: settings[name] for name in shared}


def test_the_defaults_are_the_protocol_of_the_paper():
    assert asdict(DEFAULTS) | PAPER == asdict(DEFAULTS)


def test_settings_of_whole_decodes_are_left_out_of_identities_where_they_are_not_asked_for():
    assert OF_WHOLE_DECODES == LEAST


@pytest.mark.process
def test_a_parser_gets_the_defaults_without_pydantic_or_torch():
    code = (
        "import sys, dlm_bench.timing.settings; "
        "sys.exit(bool({'pydantic', 'torch'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

"""Exit codes: 1 is a proven regression and nothing else, and no command ends with a traceback."""

import os
import signal
import subprocess
import sys

import pytest
from support.command_lines import TINY_RUN
from support.comparing import record

from dlm_bench.cli import list as list_command
from dlm_bench.cli import main
from dlm_bench.errors import ConfigError
from dlm_bench.results.store import append_record

pytestmark = pytest.mark.process

BENCH = [sys.executable, "-m", "dlm_bench"]


def shell(script, **environment):
    """Run a line of sh in which "$@" is dlm-bench."""
    environment = {**os.environ, **environment}
    command = ["sh", "-c", script, "sh", *BENCH]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "r.jsonl"
    for length in (64, 128, 256, 512):
        append_record(path, record(length=length, scale=length / 64))
    return path


@pytest.fixture
def failing(monkeypatch):
    """Make `dlm-bench list` raise an error."""

    def install(error):
        def fail(args):
            raise error

        monkeypatch.setattr(list_command, "list", fail)

    return install


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("size: 'x'"), 2, "size: 'x'"),
        (PermissionError(13, "Permission denied", "/etc/x"), 2, "'/etc/x': Permission denied"),
        (ValueError("of us\nand more"), 70, "internal error: ValueError: of us (--debug shows"),
        (BrokenPipeError(32, "Broken pipe"), 70, "internal error: BrokenPipeError"),
        (AssertionError(), 70, "internal error: AssertionError (--debug"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_one_line_and_never_exit_code_1(error, code, said, failing, capsys):
    failing(error)
    assert main(["list"]) == code
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"dlm-bench: {said}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--debug", "list"], ["list", "--debug"]])
def test_debug_shows_the_traceback(arguments, failing, capsys):
    failing(ValueError("of us"))
    assert main(arguments) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == "dlm-bench: internal error: ValueError: of us"


def test_debug_as_the_value_of_an_option_shows_no_traceback(failing, capsys, monkeypatch):
    def fail(args):
        raise ValueError("of us")

    monkeypatch.setattr("dlm_bench.cli.report.report", fail)
    assert main(["report", "r.jsonl", "--output=--debug"]) == 70
    assert main(["report", "--output=x", "--", "--debug"]) == 70
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["compare {0} {0}", "fit {0}", "table fit {0}", "--help"])
def test_a_full_disk_behind_standard_output_is_exit_code_2(command, results):
    done = shell(f'"$@" {command.format(results)} > /dev/full')
    assert done.returncode == 2
    assert done.stderr == "dlm-bench: standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ('"$@" compare {0} {0} >&-', 0),
        ('"$@" compare {0} {0} 2>&-', 0),
        ('"$@" compare {0} {0} >&- 2>&- <&-', 0),
        ('"$@" fit none.jsonl 2>/dev/full', 2),
        ('"$@" fit none.jsonl 2>&-', 2),
        ('"$@" --nonsense 2>/dev/full', 2),
        ('"$@" fit {0} 2>/dev/full', 0),
    ],
)
def test_a_stream_that_is_closed_or_full_changes_no_verdict(script, code, results):
    done = shell(script.format(results))
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert not done.stderr


def test_an_error_message_does_not_go_to_standard_output_where_standard_error_is_closed():
    assert shell('"$@" fit none.jsonl 2>&-').stdout == ""


def test_a_reader_that_has_seen_enough_is_no_error(results):
    done = shell(f'{{ "$@" compare {results} {results} --format json; echo $? >&2; }} | head -c 1')
    assert done.stderr.strip() == "0"


# The reader is gone for certain before the command prints.
GONE = '{{ sleep 1; "$@" {}; echo $? >&2; }} | :'


def test_a_reader_that_is_gone_hides_no_regression(results, tmp_path):
    slow = tmp_path / "slow.jsonl"
    for length in (64, 128, 256, 512):
        append_record(slow, record(length=length, scale=length / 64 * 2))
    done = shell(GONE.format(f"compare {results} {slow} --run-spread 0"))
    assert done.stderr.splitlines()[-1] == "1"


def test_a_reader_that_is_gone_stops_no_sweep_and_hides_no_failed_point(tmp_path):
    path, output = tmp_path / "s.toml", tmp_path / "r.jsonl"
    path.write_text(
        'name = "s"\nsize = "tiny"\nlengths = [8, 16]\nwarmup = 0\nrepeats = 1\ntimeout = 1e-9\n'
        '[[lines]]\nbackbone = "diffutran"\nsampler = "full"\n'
    )
    command = f"sweep {path} --resume --output {output}"
    done = shell(GONE.format(command), PYTHONUNBUFFERED="1")
    assert done.stderr.splitlines()[-1] == "3"
    assert len(output.read_text().splitlines()) == 2


def test_a_closed_standard_output_does_not_print_into_the_results_file(tmp_path):
    path = tmp_path / "r.jsonl"
    done = shell(f'"$@" {" ".join(TINY_RUN)} --output {path} >&-')
    assert done.returncode == 0
    (line,) = path.read_text().splitlines()
    assert line.startswith("{")


def test_a_run_shows_what_it_measured_where_the_record_cannot_be_written():
    done = shell(f'"$@" {" ".join(TINY_RUN)} --output /dev/full')
    assert done.returncode == 2
    assert "tokens/s" in done.stdout
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_sweep_shows_what_it_measured_where_a_record_cannot_be_written(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        'name = "s"\nsize = "tiny"\nlengths = [8]\nwarmup = 0\nrepeats = 1\n'
        '[[lines]]\nbackbone = "diffutran"\nsampler = "full"\n'
    )
    done = shell(f'"$@" sweep {path} --output /dev/full')
    assert done.returncode == 2
    assert "tokens/s" in done.stdout
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


SLOW_IMPORT = """
import signal, sys, os
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
from dlm_bench.cli import main
sys.exit(main(["fit", "none.jsonl"]))
"""


@pytest.mark.parametrize(
    "module", ["dlm_bench.streams", "dlm_bench.cli.parser", "dlm_bench.results.store"]
)
def test_an_interrupt_of_an_import_is_exit_code_130_without_a_traceback(module):
    command = [sys.executable, "-c", SLOW_IMPORT.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 128 + signal.SIGINT
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


def test_importing_the_command_line_imports_nothing_slow():
    probe = (
        "import sys, dlm_bench.cli; "
        "print(*sorted(m for m in sys.modules if 'dlm_bench' in m.split('.')))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["dlm_bench", "dlm_bench.cli", "dlm_bench.version"]


def test_the_package_runs_as_a_module_and_says_its_version():
    from dlm_bench import __version__

    done = shell('"$@" --version')
    assert (done.returncode, done.stdout) == (0, f"dlm-bench {__version__}\n")

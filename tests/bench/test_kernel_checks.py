"""The script that holds each kernel against its reference: what is wrong, and what it survives.

A stand-in takes the place of CUDA: captures that raise, and generators that do.
"""

import kernel_cases
import kernel_floors
import pytest
import torch
from kernel_case import Bench, Case, Check

from dlm_bench.cost.hardware import Hardware
from dlm_bench.kernels.lm_head import predict
from dlm_bench.models.config import model_config
from dlm_bench.timing.capture import BrokenCaptureError

LAPTOP = Hardware("laptop", 1e11, 1e10, 16e9, "made up", dtype="float32")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def bench_on(device=CPU):
    return Bench(device, torch.float32, model_config("diffumamba", "tiny"), 48, (16,))


def case_of(name, run=lambda: torch.ones(3), **others):
    checks = {"output": Check(run, lambda: torch.ones(3))}
    return Case(name, "torch", "", {"mlp": "torch"}, (run,), checks, 1.0, 1.0, **others)


def rows_of(*groups, done=frozenset()):
    """The row of each case, and whether the process could measure no more."""
    found = kernel_floors.measured_cases(bench_on(), LAPTOP, groups, done)
    return [(row, event["broken"]) for event in found for row in event.get("rows", ())]


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        (lambda tokens, p: (tokens, 5 * p), "log p"),
        (lambda tokens, p: (tokens, 0 * p), "log p"),
        (lambda tokens, p: (tokens, p.roll(1)), "log p"),
        (lambda tokens, p: (tokens.roll(1), p), "logit"),
    ],
    ids=["5 times too large", "all zero", "of another row", "tokens of another row"],
)
def test_a_head_with_wrong_confidences_or_tokens_is_wrong(monkeypatch, mistake, found):
    def wrong(*operands):
        return mistake(*predict(*operands))

    monkeypatch.setattr(
        kernel_cases, "choose_predict", lambda name: wrong if name == "wrong" else predict
    )
    monkeypatch.setattr(Bench, "implementations", lambda *_, **__: ["wrong"])
    for row, broken in rows_of(kernel_cases.head_cases):
        assert row["status"] == "wrong", row
        assert row["message"].startswith(found)
        assert row["kernels"] == {"lm_head": "wrong"}
        assert not broken


def test_a_head_in_bfloat16_is_within_its_bounds(monkeypatch):
    """The plain head on logits rounded to bfloat16, where tokens that compete change places."""
    monkeypatch.setattr(Bench, "implementations", lambda *_, **__: ["torch"])
    config = model_config("diffumamba", "240m")
    bench = Bench(CPU, torch.bfloat16, config, 64, (16,))
    torch.manual_seed(0)
    for case in kernel_cases.head_cases(bench):
        (row,) = kernel_floors.measured(case, bench, LAPTOP)["rows"]
        assert row["status"] == "ok", row
        assert row["errors"]["log p"] > 1e-4  # not compared with itself


def test_a_group_whose_next_case_cannot_be_made_leaves_the_others_to_be_measured():
    def broken_cases(bench):
        yield case_of("first")
        raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")

    def others(bench):
        yield case_of("second")

    rows = [row for row, _ in rows_of(broken_cases, others)]
    assert [(row["operation"], row["status"]) for row in rows] == [
        ("first", "ok"),
        ("broken", "raised"),
        ("second", "ok"),
    ]
    assert rows[1]["message"].startswith("RuntimeError: Offset increment")


def test_a_case_that_raises_is_a_row_with_its_reason_and_kernels():
    def fail():
        raise ValueError("no such tile\nmore")

    ((row, broken),) = rows_of(lambda bench: iter([case_of("a", fail)]))
    assert (row["status"], row["message"]) == ("raised", "ValueError: no such tile")
    assert row["kernels"] == {"mlp": "torch"}
    assert not broken


def test_what_the_output_holds_is_not_measured_again():
    def cases(bench):
        for name in "abc":
            yield case_of(name)

    def broken_cases(bench):
        raise RuntimeError
        yield

    done = {("a", "torch", ""), ("b", "torch", ""), ("broken", "", "")}
    assert [row["operation"] for row, _ in rows_of(cases, broken_cases, done=done)] == ["c"]


def test_a_group_whose_next_case_could_not_be_made_is_not_begun_again():
    def hanging_cases(bench):
        raise AssertionError("it would hang again")
        yield

    assert rows_of(hanging_cases, done={("hanging", "", "")}) == []


def test_a_kernel_that_spoils_its_next_launch_is_wrong():
    results = iter([torch.ones(3)] + [torch.zeros(3)] * 100)
    ((row, _),) = rows_of(lambda bench: iter([case_of("a", lambda: next(results))]))
    assert row["status"] == "wrong"
    assert row["message"] == "output: error 1.0e+00, allowed 1e-04"


def test_a_nan_is_wrong():
    nan = case_of("a", lambda: torch.full((3,), torch.nan))
    (row,) = kernel_floors.measured(nan, bench_on(), LAPTOP)["rows"]
    assert row["status"] == "wrong"


@pytest.fixture
def cuda(monkeypatch):
    """Captures and events of a GPU that is not there: the names of what was captured, and timed."""
    testing = pytest.importorskip("triton.testing", reason="triton is not installed")
    seen = {"captures": 0, "timed": []}

    class Capture:
        def __init__(self, device):
            pass

        def __call__(self, step):
            seen["captures"] += 1
            step()
            return lambda: None

    def do_bench(run, **_):
        seen["timed"].append(run)
        return 40.0

    monkeypatch.setattr(kernel_floors, "CudaCapture", Capture)
    monkeypatch.setattr(testing, "do_bench", do_bench)
    return seen


def test_what_waits_for_the_host_is_never_captured(cuda):
    case = case_of("lm_head", capturable=False)
    assert kernel_floors.seconds(case, 1e-6, CUDA) == pytest.approx(0.040)
    assert cuda["captures"] == 0
    assert cuda["timed"] == [case.runs[0]]


def test_the_plain_head_says_that_it_waits_for_the_host(monkeypatch):
    monkeypatch.setattr(Bench, "implementations", lambda *_, **__: ["torch", "triton"])
    found = {case.implementation: case.capturable for case in kernel_cases.head_cases(bench_on())}
    assert found == {"torch": False, "triton": True}


def test_short_work_is_timed_in_batches_on_rotating_operands(cuda):
    ran = []
    runs = tuple(lambda n=n: ran.append(n) for n in range(3))
    case = Case("a", "torch", "", {}, runs, {}, 0, 0)
    assert kernel_floors.seconds(case, 1e-6, CUDA) == pytest.approx(0.040 / 20)
    assert ran[1:] == [n % 3 for n in range(20)]  # after one that compiles
    ran.clear()
    assert kernel_floors.seconds(case, 3e-3, CUDA) == pytest.approx(0.040)
    assert ran == [0, 0]


def test_a_failed_capture_is_a_row_and_ends_the_process_if_it_could_not_be_healed(
    cuda, monkeypatch
):
    calls = []

    def syncs():
        calls.append(1)
        if len(calls) % 3 == 0:  # after the check and the warm-up
            raise error
        return torch.ones(3)

    monkeypatch.setattr(kernel_floors, "is_broken", lambda device: False)
    for error, ended in (
        (RuntimeError("operation not permitted when stream is capturing"), False),
        (BrokenCaptureError("a capture failed and the GPU could not be put back"), True),
    ):
        found = kernel_floors.measured(case_of("a", syncs), bench_on(CUDA), LAPTOP)
        (row,) = found["rows"]
        assert found["broken"] is ended
        assert row["status"] == "raised"
        assert row["message"] == f"{type(error).__name__}: {error}"


def test_operands_rotate_until_they_do_not_fit_into_a_cache():
    bench = bench_on()
    assert bench.copies(1 << 10) == 20
    assert bench.copies(64 << 20) == 2
    assert bench.copies(1 << 30) == 1

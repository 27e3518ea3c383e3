"""A recorded acceptance: its names and its files."""

import hashlib
import json

import pytest
from support.reference import lively_model
from support.traces import EDITS, FACTS, trace_of

from dlm_bench import ConfigError, build_sampler
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.acceptance.options import RULE_OPTIONS
from dlm_bench.samplers.acceptance.trace import TOLD, load_trace, save_trace

PAIRS = FACTS | {"sampler": "self-speculation", "block_size": None}
SCHEMA_1 = {key: value for key, value in FACTS.items() if key != "sequences"} | {
    "schema_version": 1,
    "accepted": FACTS["sequences"][0],
}


def test_the_options_of_a_replay_name_the_trace_by_its_content():
    sampler = build_sampler("block-cache", trace=trace_of(), block_size=4)
    options = sampler.options()
    assert options.keys() == {"temperature", "order", "trace", "block_size", "commit"}
    assert options["trace"].startswith("diffumamba-tiny-threshold-0.9@")
    assert len(options["trace"].partition("@")[2]) == 12


@pytest.mark.parametrize(
    "change",
    [
        {"sequences": [[[3, 1], [1, 1, 2], [2]]]},
        {"sequences": [[[1, 3], [1, 1, 1, 1], [2]]]},
        {"sequences": FACTS["sequences"] * 2},
        {"checkpoint": "0123456789abcdef"},
        {"seed": 1},
        {"prompt_len": 1},
        {"options": {"accept": "threshold", "threshold": 0.8}},
        {"backbone": "diffutran"},
    ],
)
def test_no_two_traces_share_a_label(change):
    assert trace_of(**change).label != trace_of().label


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "fixed"),
        ({"tokens_per_step": 2, "order": "margin"}, "fixed-margin"),
        ({"accept": "threshold", "threshold": 0.9, "order": "confidence"}, "threshold-0.9"),
        ({"accept": "strict", "threshold": 0.95}, "strict-0.95"),
        ({"accept": "factor", "factor": 20.0}, "factor-20"),
        ({"accept": "factor", "factor": 1}, "factor-1"),
        ({"accept": "factor-released", "factor": 0.5}, "factor-released-0.5"),
        ({"accept": "entropy", "gamma": 0.1}, "entropy-0.1"),
        ({"accept": "bounded", "threshold": 0.8, "max_passes": 16}, "bounded-0.8-max-16"),
        (
            {
                "accept": "joint",
                "threshold": 0.5,
                "edit_threshold": 0.2,
                "max_edit_passes": 4,
            },
            "joint-0.5-edit-0.2-max-4",
        ),
        ({"accept": "agreement"}, "agreement"),
    ],
)
def test_a_label_names_the_rule_with_its_options(options, told):
    label, _, digest = trace_of(options=options).label.partition("@")
    assert label == f"diffumamba-tiny-{told}"
    assert len(digest) == 12


def test_a_label_knows_the_options_of_every_rule():
    assert {*TOLD} == {option for options in RULE_OPTIONS.values() for option in options} - {
        "tokens_per_step"
    }


def test_where_a_trace_lies_does_not_matter(tmp_path):
    save_trace(trace_of(), tmp_path / "a" / "one.json")
    save_trace(trace_of(), tmp_path / "two.json")
    options = [
        build_sampler("block-cache", trace=str(path), block_size=4).options()
        for path in (tmp_path / "a" / "one.json", tmp_path / "two.json")
    ]
    assert options[0] == options[1]


def test_a_trace_comes_back_from_its_file(tmp_path):
    save_trace(trace_of(), tmp_path / "t.json")
    assert load_trace(tmp_path / "t.json") == trace_of()


def test_a_trace_of_schema_1_keeps_its_label_and_its_file(tmp_path):
    text = json.dumps(SCHEMA_1 | {"prompt_len": 0, "batch": 1}, separators=(",", ":"))
    order = ["checkpoint", "seed", "batch", "accepted"]  # as that schema wrote them, at the end
    facts = json.loads(text)
    facts |= {name: facts.pop(name) for name in ("prompt_len", *order)}
    text = json.dumps(facts, separators=(",", ":"))
    (tmp_path / "old.json").write_text(text)
    trace = load_trace(tmp_path / "old.json")
    assert trace.sequences == trace_of().sequences
    assert trace.label.partition("@")[2] == hashlib.sha256(text.encode()).hexdigest()[:12]
    save_trace(trace, tmp_path / "new.json")
    assert (tmp_path / "new.json").read_text() == text + "\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a trace"),
        (json.dumps(FACTS)[:-20], "not a trace"),
        ("[]", "not a trace"),
        (json.dumps(FACTS | {"length": 11}), "block_size and length"),
        (json.dumps(FACTS | {"sequences": []}), "must be a sequence"),
        (json.dumps(FACTS | {"sequences": [[[3, 1], [0, 4], [2]]]}), "first pass"),
        (json.dumps(FACTS | {"sequences": [[[3, 1], [5, -1], [2]]]}), "sequences.0.1.1"),
        (json.dumps(FACTS | {"sequences": [[[3, 1], [], [2]]]}), "block_size and length"),
        (json.dumps(FACTS | {"sequences": [[["3", 1], [4], [2]]]}), "sequences.0.0.0"),
        (json.dumps(SCHEMA_1 | {"accepted": [["3", 1], [4], [2]]}), "sequences.0.0.0"),
        (json.dumps({k: v for k, v in FACTS.items() if k != "seed"}), "seed"),
        (json.dumps(FACTS | {"more": 1}), "more"),
        (json.dumps(FACTS | {"drawn": [7]}), "drawn is not a field of a file"),
        (json.dumps(FACTS | {"sampler": "self-speculation"}), "block_size must be null"),
        (json.dumps(PAIRS | {"sequences": [[[3, 0, 7]]]}), "each pair of passes must keep a token"),
        (json.dumps(FACTS | {"options": {"accept": "joint"}}), "needs the numbers edit_threshold"),
        (json.dumps(FACTS | {"options": EDITS | {"max_edit_passes": "4"}}), "needs the numbers"),
        (json.dumps(FACTS | {"schema_version": 3}), "schema_version 3 is not known; allowed: 1, 2"),
    ],
)
def test_a_file_that_is_no_trace_is_named_in_one_line(tmp_path, text, said):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        build_sampler("block-cache", trace=str(path), block_size=4)
    message = str(caught.value)
    assert message.startswith(f"trace {str(path)!r}: ")
    assert said in message
    assert "\n" not in message


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"trace '.*none\.json': No such file"):
        build_sampler("full", trace=str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="trace"):
        build_sampler("full", trace="\0")
    with pytest.raises(ConfigError, match="trace"):
        save_trace(trace_of(), tmp_path)


def test_a_trace_knows_the_weights_it_is_of():
    model = lively_model("diffutran", layers=1)
    model.checkpoint = "0123456789abcdef"
    try:
        trace = record_trace(model, build_sampler("full", accept="factor"), 6, seed=3)
    finally:
        del model.checkpoint
    assert (trace.checkpoint, trace.seed, trace.length) == ("0123456789abcdef", 3, 6)
    assert (trace.backbone, trace.size, trace.sampler) == ("diffutran", "tiny", "full")
    assert trace.options["factor"] == 1.0

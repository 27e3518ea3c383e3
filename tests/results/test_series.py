"""The labels of series: what tells them apart."""

from support.figure_records import record

from dlm_bench.results.series import labelled, series_of
from dlm_bench.results.store import append_record, load_results

RULES = {
    "LLaDA, p=8, order=margin": {"tokens_per_step": 8, "order": "margin"},
    "LLaDA, threshold=0.9": {"accept": "threshold", "threshold": 0.9},
    "LLaDA, accept=strict, threshold=0.9": {"accept": "strict", "threshold": 0.9},
    "LLaDA, accept=entropy, gamma=0.1": {"accept": "entropy", "gamma": 0.1},
    "LLaDA, accept=entropy, gamma=0.5": {"accept": "entropy", "gamma": 0.5},
    "LLaDA, accept=joint, threshold=0.9, edit_threshold=0.2": {
        "accept": "joint",
        "threshold": 0.9,
        "edit_threshold": 0.2,
    },
}


def test_a_label_names_whichever_rule_of_acceptance_or_order_differs(tmp_path):
    for options in RULES.values():
        append_record(
            tmp_path / "r.jsonl", record("llada", "full", 512, point={"options": options})
        )
    named = labelled(series_of(load_results(tmp_path / "r.jsonl")))
    assert [series.label for series in named] == [*RULES]

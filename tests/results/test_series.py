"""The labels of series: what tells them apart."""

from support.figure_records import record

from dlm_bench.results.series import labelled, series_of, shared_settings, short_traces
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


def series(tmp_path, *points):
    for sampler, options in points:
        options = {"block_size": 32, **options}
        append_record(
            tmp_path / "r.jsonl", record("diffumamba", sampler, 512, point={"options": options})
        )
    return series_of(load_results(tmp_path / "r.jsonl"))


def test_a_pipeline_names_the_trace_that_another_sampler_does_not_replay(tmp_path):
    drawn = series(
        tmp_path,
        ("block-cache", {"trace": "m-entropy-20@0dcfb82408e8", "commit": "separate"}),
        ("pipeline", {"trace": "m-entropy-20@64b98ba7c352"}),
    )
    assert [each.label for each in labelled(drawn)] == [
        "DiffuMamba, block cache, trace=m-entropy-20@0dcf, commit=separate",
        "DiffuMamba, pipeline of blocks, trace=m-entropy-20@64b9",
    ]


def test_a_value_that_all_series_share_is_in_the_caption_with_their_sampler(tmp_path):
    options = {"trace": "m@0dcfb82408e8", "commit": "separate", "order": "confidence"}
    drawn = series(
        tmp_path, ("block-cache", options), ("block-cache", options | {"batching": "fdfo"})
    )
    assert "tiny, block cache, B=32, trace=m@0dcfb82408e8, batch=1" in shared_settings(drawn)
    assert [each.label for each in labelled(drawn)] == [
        "DiffuMamba, commit=separate",
        "DiffuMamba, commit=separate, batching=fdfo",
    ]


def test_a_p_that_only_some_series_have_is_in_their_labels_and_not_in_the_caption(tmp_path):
    drawn = series(
        tmp_path,
        ("block-cache", {"tokens_per_step": 8}),
        ("block-cache", {"accept": "threshold", "threshold": 0.9}),
    )
    assert "p=8" not in shared_settings(drawn)
    assert [each.label for each in labelled(drawn)] == [
        "DiffuMamba, p=8",
        "DiffuMamba, threshold=0.9",
    ]


def test_a_heading_names_an_option_that_a_sampler_lacks_behind_the_samplers_with_it(tmp_path):
    options = {"tokens_per_step": 8, "temperature": 0.0}
    drawn = series(tmp_path, ("block-cache", options | {"commit": "none"}), ("full", options))
    append_record(tmp_path / "r.jsonl", record("ar-mamba", "ar", 512))
    same, other = shared_settings(drawn), series_of(load_results(tmp_path / "r.jsonl"))
    assert same.endswith(", cpu, float32, tiny, p=8, B=32, batch=1")
    assert shared_settings(other).endswith(
        ", cpu, float32, tiny, batch=1; full sequence: p=8, B=32; block cache: p=8, B=32"
    )
    of_all, *_ = shared_settings(other).split(";")
    assert "p=8" not in of_all


def test_a_trace_is_named_without_digest_unless_another_has_its_name():
    assert short_traces(["a@01234567", "b@89abcdef", None]) == {
        "a@01234567": "a",
        "b@89abcdef": "b",
    }
    assert short_traces(["a@01234567", "a@01239999"]) == {
        "a@01234567": "a@01234",
        "a@01239999": "a@01239",
    }

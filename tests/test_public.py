"""The names of the public contract."""

import dlm_bench


def test_every_public_name_is_there():
    for name in dlm_bench.__all__:
        assert getattr(dlm_bench, name) is not None


def test_all_lists_what_loads_lazily():
    assert sorted(dlm_bench.__all__) == sorted(dlm_bench._HOMES)


def test_the_readme_contract_works_as_written(tmp_path):
    import torch

    model = dlm_bench.build_model(
        "diffumamba", size="tiny", device="cpu", dtype=torch.float32, seed=0
    )
    sampler = dlm_bench.build_sampler("block-cache", tokens_per_step=8, block_size=32)
    schedule = sampler.schedule(4096)
    assert schedule.forward_passes == 512 + 127
    assert schedule.query_tokens == 32 * (512 + 127)
    tokens = sampler.decode(model, 64, seed=0)
    assert tokens.shape == (1, 64)
    assert tokens.dtype == torch.int64
    record = dlm_bench.measure(model, sampler, 64, mode="exact", warmup=1, repeats=2)
    assert len(record.seconds) == 2
    dlm_bench.append_record(tmp_path / "x.jsonl", record)
    assert len(dlm_bench.load_results(tmp_path / "x.jsonl")) == 1
    fit = dlm_bench.fit_latency([1000, 2000, 4000, 8000], [1.0, 2.1, 4.4, 10.0])
    assert min(fit.quadratic, fit.linear, fit.constant) >= 0
    assert fit.predict(16000) > 10

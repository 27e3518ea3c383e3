"""A test that guards the speed of decoding, with the fixture of dlm-bench's pytest plugin.

pytest examples --dlm-save baseline/pytest.jsonl        # a few times: each is a run
pytest examples --dlm-baseline baseline/pytest.jsonl    # fails if a point is proven slower
"""

import pytest


@pytest.mark.parametrize("backbone", ["diffutran", "diffumamba", "diffumamba-h"])
def test_decoding_with_a_block_cache_did_not_get_slower(throughput, backbone):
    record = throughput(backbone, "block-cache", size="small", length=128, tokens_per_step=8)
    throughput.check(record)

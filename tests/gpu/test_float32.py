"""The CUDA path in float32 on a GPU, against the plain path: kernels compile slowly without tensor
cores, so that these are apart from what has to be known first."""

import pytest
from support.agreement import disagreements, ends_of_each_kind, run_pass
from support.cases import pairs, samplers

from dlm_bench import build_model
from dlm_bench.kernels.choice import IMPLEMENTATIONS

PLAIN = dict.fromkeys(IMPLEMENTATIONS, "torch")
SAMPLERS = samplers()
LENGTH = 300  # whole blocks, and a last one of 12 tokens


@pytest.mark.parametrize(("backbone", "name"), pairs("warm", "warm ar"))
def test_passes_agree_with_the_plain_path(backbone, name):
    """Float32, where only the order of the sums differs: 1e-4 through 6 layers.

    One size for all tests: mamba-ssm's kernels autotune anew for every state and head width.
    """
    sampler = SAMPLERS[name]
    fused, plain = (
        build_model(backbone, "240m", "cuda", "float32", layers=6, kernels=kernels)
        for kernels in (None, PLAIN)
    )
    plan = list(sampler.passes(LENGTH))
    for index in ends_of_each_kind(plan)[-6:]:
        got = run_pass(sampler, fused, LENGTH, index)
        expected = run_pass(sampler, plain, LENGTH, index)
        assert not disagreements(got, expected, 1e-4), plan[index]

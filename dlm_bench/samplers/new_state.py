"""The allocation of a decode's buffers."""

import torch
from torch import Tensor

from dlm_bench.models.language_model import LanguageModel
from dlm_bench.plugins.api import Cache, Model
from dlm_bench.samplers.pass_numbers import noise_of, numbers_of, timesteps_of
from dlm_bench.samplers.places import places_of, width_of
from dlm_bench.samplers.schedule import DecodeShape, PlannedPass
from dlm_bench.samplers.state import DecodeState
from dlm_bench.samplers.unmask import choose_forms

MOST_ROWS = 64  # of adaLN that a decode keeps, half a MB each at 1.3b; a block cache has B/p + 1
LARGEST_INDEX = 1 << 62  # so that the sum with a pass' index stays an int64


def new_state(
    model: Model,
    passes: list[PlannedPass],
    shape: DecodeShape,
    seed: int,
    device: torch.device,
    caches: list[Cache],
    prompt: Tensor | None = None,
) -> DecodeState:
    """All buffers of a decode after a prompt (batch, prompt_len), a random one if there is none;
    every other token is MASK and the counter at the first pass."""
    config = model.config
    prompt_len, total = shape.prompt_len, shape.total
    seeds = range(seed, seed + shape.batch)
    generators = [torch.Generator(device).manual_seed(each) for each in seeds]
    width = width_of(passes, total)
    stand_ins = torch.zeros((shape.batch, width), dtype=torch.int64, device=device)
    priority = torch.empty((shape.batch, width), device=device)
    # Real, distinct ids: neither what a decode starts from nor MASK.
    special = sorted(i for i in {config.bos_id, config.mask_id} if i < config.vocab_size)
    for row, generator in enumerate(generators):
        # The prompt's do not depend on `length`.
        for part in (stand_ins[row, :prompt_len], stand_ins[row, prompt_len:total]):
            part.random_(config.vocab_size - len(special), generator=generator)
        priority[row, :total].uniform_(generator=generator)
    for each in special:
        stand_ins += stand_ins >= each
    if prompt is not None:
        stand_ins[:, :prompt_len] = prompt
    padded = stand_ins.clone()
    tokens = padded[:, :total]
    tokens[:, prompt_len:] = config.mask_id
    places = places_of(passes, shape.batch, device)
    # A decode may have more passes than tokens; a row that is apart has not.
    drawn = noise_of(passes) if places is None else [0]
    noise_start = [each * max(total, 1 + max(drawn)) % LARGEST_INDEX for each in seeds]
    timesteps = timesteps_of(passes)
    return DecodeState(
        config=config,
        passes=passes,
        tokens=tokens,
        padded=padded,
        stand_ins=stand_ins,
        priority=priority,
        index=torch.zeros(1, dtype=torch.int64, device=device),
        noise_start=torch.tensor(noise_start, device=device),
        generators=generators,
        generators_start=[generator.get_state() for generator in generators],
        caches=caches,
        forms=choose_forms(model.kernels),
        prompt_len=prompt_len,
        numbers=numbers_of(passes, timesteps, shape.batch).to(device),
        full_passes=torch.zeros(shape.batch, 1, dtype=torch.int64, device=device),
        places=places,
        modulation=_modulation(model, timesteps),
        shapes={p.kind: (p.query_len, p.block_len) for p in passes},
        offsets={n: torch.arange(n, device=device) for n in {p.block_len for p in passes}},
    )


def _modulation(model: Model, timesteps: list[float]) -> Tensor | None:
    """adaLN's rows at these timesteps, (timesteps, columns), of a denoiser of this project on a
    GPU; None if they are too many, too. On a CPU the model keeps them."""
    if not isinstance(model, LanguageModel) or model.kernels.elementwise == "torch":
        return None
    if not model.config.denoiser or len(timesteps) > MOST_ROWS:
        return None
    with torch.no_grad():
        return model.modulation(torch.tensor(timesteps, device=model.head.weight.device))

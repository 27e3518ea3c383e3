"""Passes of the CUDA path on the meta device: everything but the arithmetic, at any size."""

import weakref
from dataclasses import replace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from dlm_bench.models.factory import build_model
from dlm_bench.samplers.new_state import new_state
from dlm_bench.samplers.remdm import ReMDM
from dlm_bench.samplers.schedule import DecodeShape
from support.cases import FUSED
from support.hopper import record_launches

TRACED = FUSED | {"attention": "flash", "mlp": "cublaslt"}


def traced_model(backbone, size="1.3b", dtype="bfloat16", **kernels):
    """A model's shapes with the CUDA path's kernels."""
    return build_model(backbone, size, "meta", dtype, kernels=TRACED | kernels)


def traced_state(model, sampler, length, batch=1, prompt_len=0):
    """A decode's buffers on the meta device."""
    shape = DecodeShape(length, prompt_len, batch)
    caches = sampler.caches(model, shape.total, batch)
    passes = list(sampler.planned(shape))
    cpu = torch.device("cpu")
    with record_launches(hold=False):  # of adaLN's rows
        state = new_state(model, passes, shape, 0, cpu, caches)
    buffers = ("tokens", "padded", "stand_ins", "priority", "index")
    names = (*buffers, "noise_start", "numbers", "full_passes")
    if isinstance(sampler, ReMDM):
        state.chances = torch.tensor(sampler.chances(length))
        names = (*names, "chances")
    places = state.places and replace(state.places, numbers=state.places.numbers.to("meta"))
    moved = {name: getattr(state, name).to("meta") for name in names}
    offsets = {count: each.to("meta") for count, each in state.offsets.items()}
    return replace(state, places=places, offsets=offsets, **moved)


class Allocations(TorchDispatchMode):
    """Bytes of the tensors alive that were made inside, now and at the peak; and the operations
    that launch a kernel of torch's."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak, self.operations = 0, 0, []
        self._storages = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        known = {t.untyped_storage()._cdata for t in tree_iter((args, kwargs)) if _is_tensor(t)}
        made = False
        for tensor in tree_iter(out):
            if not _is_tensor(tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in known:
                made = True
            if storage._cdata not in self._storages and storage._cdata not in known:
                self._storages[storage._cdata] = 0
                self.alive += storage.nbytes()
                self.peak = max(self.peak, self.alive)
            if storage._cdata in self._storages:
                self._hold(tensor, storage)
        if made or function._schema.is_mutable:
            self.operations.append(str(function))
        return out

    def kernels(self):
        """The operations but those that only allocate."""
        return [name for name in self.operations if not name.startswith("aten.empty")]

    def _hold(self, tensor, storage):
        key, size = storage._cdata, storage.nbytes()
        self._storages[key] += 1

        def release():
            self._storages[key] -= 1
            if not self._storages[key]:
                del self._storages[key]
                self.alive -= size

        weakref.finalize(tensor, release)


def _is_tensor(value):
    return isinstance(value, torch.Tensor)

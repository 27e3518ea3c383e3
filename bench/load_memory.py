"""The memory that loading a folder takes, over the size of its weights.

    python bench/load_memory.py --gigabytes 8

A folder of random bfloat16 weights in two shards, shaped like Dream, is written and loaded in a new
process. Printed is the peak of resident memory, mapped pages of the files included (VmHWM of
/proc/self/status, set to 0 before), less what was resident before the load. Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LAYER = {
    "hidden_size": 3584,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
}
SMALL = {
    "hidden_size": 896,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
}


def write_folder(place: Path, gigabytes: float) -> None:
    """Write a folder of about this size."""
    import torch
    from safetensors.torch import save_file

    from dlm_bench.models.factory import empty_model
    from dlm_bench.models.hf.folder import read_folder
    from dlm_bench.models.hf.tensors import NAMES, parts_of

    shape = LAYER if gigabytes >= 4 else SMALL
    config = {"model_type": "Dream", "vocab_size": 32000, "num_hidden_layers": 1, **shape}
    layers = []
    for count in (1, 2):
        (place / "config.json").write_text(json.dumps(config | {"num_hidden_layers": count}))
        model = empty_model(read_folder(place).config, torch.device("meta"), torch.bfloat16)
        layers.append(2 * sum(each.numel() for each in model.parameters()))
    count = max(1, round((gigabytes * 1e9 - layers[0]) / (layers[1] - layers[0])) + 1)
    (place / "config.json").write_text(json.dumps(config | {"num_hidden_layers": count}))
    folder = read_folder(place)
    model = empty_model(folder.config, torch.device("meta"), torch.bfloat16)
    shapes = {name: part.shape for name, part in parts_of(model, NAMES[folder.names])}
    names, where = list(shapes), {}
    for shard in range(2):
        file = f"model-{shard + 1:05}-of-00002.safetensors"
        mine = names[shard * len(names) // 2 : (shard + 1) * len(names) // 2]
        tensors = {
            name: torch.empty(shapes[name], dtype=torch.bfloat16).uniform_(-0.05, 0.05)
            for name in mine
        }
        save_file(tensors, place / file)
        where |= dict.fromkeys(mine, file)
    index = {"metadata": {}, "weight_map": where}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))


def status(field: str) -> int:
    """Bytes that the kernel states for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


def load(place: Path) -> dict[str, float]:
    """Load a folder in this process: its weights and the peak above what was there, in bytes."""
    import torch

    from dlm_bench.models.factory import empty_model
    from dlm_bench.models.hf.folder import read_folder
    from dlm_bench.models.hf.tensors import load_weights

    folder = read_folder(place)
    empty_model(folder.config, torch.device("meta"), torch.bfloat16)  # imports more of torch
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, begin = status("VmRSS"), time.perf_counter()
    model = empty_model(folder.config, torch.device("cpu"), torch.bfloat16)
    load_weights(model, folder)  # without the digest, which reads every file too
    seconds = time.perf_counter() - begin
    weights = sum(each.numel() * each.element_size() for each in model.parameters())
    return {"weights": weights, "peak": status("VmHWM") - before, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=8.0, help="write this much (default: 8)")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write the folder and stop")
    parser.add_argument("--load", type=Path, metavar="FOLDER", help="load a folder, print JSON")
    asked = parser.parse_args()
    if asked.write:
        write_folder(asked.write, asked.gigabytes)
    elif asked.load:
        print(json.dumps(load(asked.load)))
    else:
        with tempfile.TemporaryDirectory() as place:
            again = [sys.executable, __file__, "--gigabytes", str(asked.gigabytes)]
            subprocess.run([*again, "--write", place], check=True)
            told = subprocess.run([*again, "--load", place], check=True, stdout=subprocess.PIPE)
        found = json.loads(told.stdout)
        weights, peak = found["weights"] / 1e9, found["peak"] / 1e9
        print(
            f"weights {weights:.2f} GB, peak {peak:.2f} GB: {peak / weights:.3f} times, "
            f"in {found['seconds']:.1f} s"
        )


if __name__ == "__main__":
    main()

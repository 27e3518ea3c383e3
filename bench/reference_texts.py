# ruff: noqa: E501  (a meaning is a cell of a table)
"""Meanings of the sweep keys, record fields, flags and statuses, for make_references.py."""

SWEEP = {
    "name": "name of the sweep: letters, digits, `.`, `-`, `_`. The results file is results/NAME.jsonl by default",
    "size": "model size or sizes: `tiny`, `small`, `240m`, `0.5b`, `1.3b` of the paper's backbones, or those of a preset ([models.md](models.md)) or plug-in",
    "lengths": "tokens to generate, a list",
    "device": "`auto` (CUDA if there is a GPU), `cpu`, `cuda` or `cuda:N`; `--device` overrides",
    "dtype": "`float32` or `bfloat16`. None: float32 on a CPU, bfloat16 on CUDA",
    "mode": "`exact`, `sampled` or `auto` ([timing.md](timing.md#modes)); `--mode` overrides",
    "warmup": "untimed decodes before the timed decodes",
    "repeats": "timed decodes; in sampled mode the least number of rounds",
    "nodes": "sampled: the most nodes of a stratum, 2 or more",
    "tolerance": "relative error to reach, a share; none is 1 % in sampled mode and `repeats` decodes in "
    "exact mode. auto: of sampled points",
    "max_seconds": "the longest time to reach the tolerance, a duration. auto: the longest time for exact mode",
    "min_warmup": "exact: the least time of untimed decodes, a duration",
    "min_time": "exact: the least time of timed decodes, a duration",
    "soak": "exact: the longest time of decodes before the timed ones, until all is flat ([timing.md](timing.md#soak)), a duration",
    "batch": "sequences decoded at once, a number or a list",
    "prompt_len": "tokens of a random prompt before the generated tokens, a number or a list",
    "seed": "seed of weights, tokens, prompts and noise; sequence i of a batch uses seed + i",
    "graphs": "CUDA graphs: `auto` (capture where possible), `require` (else an error), `off`",
    "kernels": 'implementation to insist on, by operation: `{ attention = "cudnn" }` ([gpu.md](gpu.md#kernels))',
    "random_weights": "`hf:FOLDER` only: draw random weights instead of loading the folder's",
    "skip_impossible": "leave out, with a count, what cannot be: a backbone with a sampler of the other kind, a length that a model lacks; else a mistake",
    "exclude": "`[[exclude]]` tables: a point is left out if for each key of a table the point has a value of the key, with globs for names",
    "timeout": "give a point up after this duration, model building included; `--timeout` overrides",
    "memory_limit": "memory of a worker on a CPU, such as `8GiB`; `--memory-limit` overrides",
    "lines": "the groups of points: `[[lines]]` tables, at least a single table",
}
GROUP = {
    "backbone": "a backbone or a list: `diffutran`, `diffumamba`, `diffumamba-h`, `ar-transformer`, `ar-mamba`, a preset ([models.md](models.md)), `hf:FOLDER`, or a plug-in's",
    "sampler": "a sampler or a list: `full`, `fast-dllm`, `block-cache`, `ar`, or a plug-in's",
    "size": "in the place of the sweep's",
    "lengths": "in the place of the sweep's",
    "batch": "in the place of the sweep's",
    "prompt_len": "in the place of the sweep's",
}
RECORD = {
    "schema_version": "version of this schema",
    "identity": "hash of point, settings, hardware and version, for `--resume` ([sweeps.md](sweeps.md#resume))",
    "point": "the measured point, below",
    "status": "`ok` or a kind of failure, below",
    "message": "reason of a failure, first line",
    "mode": "`exact` or `sampled`: the mode that ran",
    "warmup": "untimed decodes asked for",
    "repeats": "timed decodes (or least rounds) asked for",
    "seed": "seed of weights, tokens, prompts and noise",
    "run": "number of the run of `sweep --runs` ([sweeps.md](sweeps.md#runs))",
    "nfe": "passes of a decode, commits included, prefill excluded",
    "decoding_passes": "passes of a decode with unmasking: `nfe` without commits",
    "query_tokens": "tokens through the network in a decode, prefill excluded",
    "timed_tokens": "tokens of all sequences generated in `seconds`; without the first of each where the prefill gave that token",
    "seconds": "s; wall time of each repeat, a whole decode without prefill. In sampled mode an integrated decode of each round",
    "prefill_seconds": "s; time of the prefill pass of each repeat; empty without a prefill",
    "first_block_seconds": "s; time to the first block (first token of `ar`) of each repeat, prefill included",
    "passes": "sampled: the timed passes, below",
    "error_estimate": "half the 95 % interval of the mean, relative to it, of three repeats or "
    "rounds or more ([timing.md](timing.md#stopping)); exact records of before have none",
    "peak_memory_bytes": "bytes; torch's peak on a GPU, the process's peak on a CPU",
    "parameters": "number of parameters",
    "model": "configuration of the model: layers, widths, heads, vocabulary, ...",
    "checkpoint": "digest of the file of the weights; empty for random weights",
    "kernels": "implementation of each operation",
    "graphs": "for each role of pass: `captured`, or `eager:` with the reason",
    "telemetry": "hardware sensors during the repeats, below",
    "output": "the decoded tokens: `digest` of their ids, of `batch` sequences of `length` tokens after `prompt_len`; `masked_left`; `finite` logits ([timing.md](timing.md#does-the-decode-compute-what-it-should))",
    "soak": "`seconds`, `decodes`, `flat`, `first_tokens_per_second`, `sustained_tokens_per_second`, `sustained_ratio` of the soak; empty without one ([timing.md](timing.md#soak))",
    "warmup_seconds": "s; the warmup decodes (sampled: the first unit of each stratum); more than `warmup` where they still got faster",
    "settings": "the settings asked for, where `mode` may be `auto`",
    "flags": "reasons to trust the numbers less, below",
    "environment": "hardware, threads, versions of the libraries, commit, plug-ins; `kernel_check`: "
    "the reason for kernels that stand in for others ([sweeps.md](sweeps.md#failures))",
    "measured_at": "UTC time of the record, ISO 8601",
}
POINT = {
    "backbone": "name of the backbone",
    "size": "name of the size; `hf` for a `hf:FOLDER`",
    "sampler": "name of the sampler",
    "options": "options of the sampler, defaults included",
    "length": "tokens to generate for each sequence, after the prompt",
    "batch": "sequences decoded at once",
    "prompt_len": "tokens of the prompt",
    "dtype": "dtype of weights and activations",
    "device": "`cpu` or `cuda`",
}
PASS = {
    "kind": "kind of pass, such as `denoise`, `commit`, `denoise:17`",
    "query_len": "tokens in",
    "context_len": "cached tokens",
    "pass_index": "place in the schedule, from 0",
    "seconds": "s; entry i belongs to round i",
}
TELEMETRY = {
    "source": "`nvml` for a GPU, `host` for a CPU",
    "note": "reason for missing values",
    "samples": "number of samples",
    "region_seconds": "s; wall time of the timed region",
    "sm_clock_mhz": "MHz; min, median, max",
    "memory_clock_mhz": "MHz; min, median, max",
    "cpu_clock_mhz": "MHz; min, median, max",
    "power_watts": "W; min, median, max",
    "temperature_celsius": "°C; min, median, max",
    "utilisation_percent": "%; min, median, max",
    "throttle_reasons": "reasons for lower clocks, by NVML's names; on a CPU `core_thermal`, `package_thermal`",
    "throttled_share": "share of samples of a GPU under load with a clock below 95 % of the highest, unless the user set it; on a CPU 0 or 1",
    "energy_joules": "J; all repeats, the whole GPU or all CPU packages ([timing.md](timing.md#telemetry))",
    "tokens_per_joule": "tokens of all repeats per joule",
    "load_1min": "load average of the host",
    "other_busy_cpus": "mean number of this process's CPUs busy with other work",
    "waiting_threads": "mean number of this process's threads that were ready and had no CPU, hypervisor included",
    "other_gpu_percent": "%; share of the SMs' time that other processes took, where NVML tells",
    "gpu_state": "power limits (W), highest and application clocks (MHz), persistence, ECC, MIG, number of processes with CUDA; as `dlm-bench env` shows",
}
COMPUTED = {
    "mean_seconds": "s; mean of `seconds`",
    "stddev_seconds": "s; standard deviation of `seconds`; null of a single repeat",
    "tokens_per_second": "`timed_tokens` / `mean_seconds`",
    "interval_95": "ends of the 95 % interval of `tokens_per_second`: divided and multiplied by 1 + "
    "the relative error; null where no error is known, as of fewer than three repeats",
    "ms_per_pass": "ms; `mean_seconds` / `nfe`",
}

COLUMNS = {
    "hardware": "name of the hardware, from `environment`",
    "torch": "version of torch, from `environment`",
    "driver": "version of the GPU's driver, from `environment`",
    "mean_prefill_seconds": "s; mean of `prefill_seconds`",
    "mean_first_block_seconds": "s; mean of `first_block_seconds`",
    **COMPUTED,
    "nfe_per_token": "passes per token of a sequence, commits included",
    "timed_tokens": "as the field; filled in for older records",
    "tokens_per_pass": "tokens of a sequence per pass with unmasking",
}
STATUSES = {
    "ok": "measured",
    "oom": "memory ran out, or the memory limit was met",
    "error": "an exception, or the worker died; see `message`",
    "timeout": "no result within the timeout",
    "skipped": "not tried; `message` says why: the point cannot fit in the memory, a shorter length of the series ran out of memory or "
    "time, two points of the series had the same error, or a kernel failed its check",
}
FLAGS = {
    "throttled": "5 % of a GPU's samples under load have an SM clock below 95 % of the highest (without known clocks: a thermal or board slowdown named by NVML); or a CPU's thermal counter moved",
    "drifting": "the Theil-Sen slope over the repeats is more than 1 % from first to last, with a chance under 2 % by the Mann-Kendall test",
    "outliers": "a repeat has a modified z-score (median absolute deviation) above 3.5 + 20/n and is 5 % off the median",
    "contended": "other processes took more than 5 % of a GPU's SMs; on a CPU: more than 0.05 threads of the process waited for a CPU on average",
}

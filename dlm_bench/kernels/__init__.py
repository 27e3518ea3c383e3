"""The operations that carry the time of a pass, each beside its plain-PyTorch reference."""


def chosen_kernels(device_type: str) -> dict[str, str]:
    """Which implementation of each operation runs on a kind of device; goes into every record."""
    del device_type  # one implementation of each so far, on every device
    return {
        "attention": "torch-sdpa",
        "ssd": "torch-chunked",
        "conv": "torch-shifted",
        "lm_head": "torch-masked-rows",
    }

"""The operations that carry the time of a pass, each beside its plain-PyTorch reference."""

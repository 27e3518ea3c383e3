"""Sweeps in several workers at once: on the GPUs of this machine, or as the jobs of a cluster."""

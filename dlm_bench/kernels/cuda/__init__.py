"""The project's own Triton kernels, for the jobs that no library does on a GPU.

Each is tested against a plain-PyTorch reference in the folder above: under Triton's interpreter
without a GPU, and by `pytest -m gpu` with a GPU. Nothing here is
imported on a machine without Triton.
"""

"""The project's own Triton kernels: what runs on a GPU where no library does the job.

Each has a plain-PyTorch reference one folder up, which it is tested against: under Triton's
interpreter where there is no GPU, and by `pytest -m gpu` where there is one. Nothing here is
imported on a machine without Triton.
"""

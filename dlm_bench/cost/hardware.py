"""Hardware sheets: the limits of GPUs by their vendors."""

from dataclasses import dataclass

MEASURED = "measured"  # the name of a calibration of this machine


@dataclass(frozen=True)
class Hardware:
    """The limits of a machine.

    peak: FLOP/s of dense matrix products in `dtype`.
    bandwidth: of the memory, bytes/s.
    memory: bytes.
    source: of these numbers.
    reported: the machine's names by CUDA.
    """

    name: str
    peak: float
    bandwidth: float
    memory: float
    source: str
    dtype: str = "bfloat16"
    reported: tuple[str, ...] = ()

    @property
    def ridge(self) -> float:
        """FLOPs per byte at the ridge: above, the peak bounds a pass; below, the bandwidth."""
        return self.peak / self.bandwidth

    @property
    def summary(self) -> str:
        """The limits and their source in a line."""
        peak, bandwidth = self.peak / 1e12, self.bandwidth / 1e12
        return f"{self.name}: {peak:,.4g} TFLOP/s, {bandwidth:.3g} TB/s ({self.source})"


# bfloat16 on tensor cores with float32 accumulation, without sparsity, where sheets print the
# number with sparsity half of it. The names are exact: an H100 NVL, an A100 of 40 GB or on PCIe, a
# slice of a GPU (MIG) and a laptop's 4090 have other limits.
_SHEETS = (
    Hardware(
        "h100-sxm",
        989.4e12,
        3.35e12,
        80e9,
        "NVIDIA H100 datasheet, Hopper whitepaper",
        reported=("NVIDIA H100 80GB HBM3",),
    ),
    Hardware(
        "h100-pcie",
        756e12,
        2.0e12,
        80e9,
        "NVIDIA H100 datasheet, Hopper whitepaper",
        reported=("NVIDIA H100 PCIe",),
    ),
    Hardware(
        "h200",
        989.4e12,
        4.8e12,
        141e9,
        "NVIDIA H200 datasheet, Hopper whitepaper",
        reported=("NVIDIA H200",),
    ),
    Hardware(
        "a100-sxm-80gb",
        312e12,
        2.039e12,
        80e9,
        "NVIDIA A100 datasheet",
        reported=("NVIDIA A100-SXM4-80GB",),
    ),
    Hardware(
        "b200",
        2250e12,
        8.0e12,
        180e9,
        "NVIDIA DGX B200 datasheet, an eighth of the system",
        reported=("NVIDIA B200",),
    ),
    # The datasheet prints 362.05 beside 733 with sparsity. Half of that is what the clock gives:
    # 142 SMs x 1024 FLOPs a cycle x 2.52 GHz = 366.4, four times its 91.6 in float32.
    Hardware(
        "l40s",
        366.5e12,
        0.864e12,
        48e9,
        "NVIDIA L40S datasheet, half of the peak with sparsity",
        reported=("NVIDIA L40S",),
    ),
    Hardware(
        "rtx-4090",
        165.2e12,
        1.008e12,
        24e9,
        "NVIDIA Ada GPU Architecture whitepaper",
        reported=("NVIDIA GeForce RTX 4090",),
    ),
)
HARDWARE: dict[str, Hardware] = {sheet.name: sheet for sheet in _SHEETS}


def sheet_of(reported: object) -> Hardware | None:
    """The sheet of a machine by the name that its records have (`hardware`), None without one."""
    return next((sheet for sheet in _SHEETS if reported in sheet.reported), None)

"""Trace the CUDA path without a GPU: kernel launches on `meta` tensors, compiled for sm_90.

Under `record_launches` a Triton kernel's launch is written down instead of run, so that whole
passes can be traced on the meta device at any size. `compile_for_hopper` then compiles a launch
with the very types, constants and alignments that it would have on an H100.
"""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from unittest.mock import patch

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

SHARED_LIMIT = 232448  # bytes of shared memory that one block can have on sm_90
_MEMORY = ("LD", "ST", "ATOM", "RED", "UBLK", "UTMA")  # operations that touch it begin so
_BINARIES = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel: its arguments by position and name, and the grid."""

    kernel: JITFunction
    args: tuple[Any, ...]
    options: dict[str, Any]
    grid: Any

    @property
    def name(self) -> str:
        return self.kernel.fn.__name__

    @property
    def key(self) -> str:
        """Equal for launches that the compiler cannot tell apart."""
        names = [parameter.name for parameter in self.kernel.params]
        bound = dict(zip(names, self.args, strict=False)) | self.options
        constant = {p.name for p in self.kernel.params if p.is_constexpr} | set(bound) - set(names)
        kinds = [(n, repr(v) if n in constant else _kind(v)) for n, v in sorted(bound.items())]
        return repr((self.kernel.fn.__module__, self.name, kinds))


def _kind(value: Any) -> Any:
    """What Triton specialises an argument on."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.data_ptr() % 16 == 0
    if isinstance(value, int) and not isinstance(value, bool) and value > 1:
        return "int", value % 16 == 0, value >= 2**31
    return repr(value)


@dataclass(frozen=True)
class Compiled:
    """A kernel's machine code for sm_90: PTX, bytes of shared memory, registers and spills."""

    name: str
    ptx: str
    shared: int
    cubin: bytes

    @cached_property
    def usage(self) -> str:
        return self._disassembled("cuobjdump", "--dump-resource-usage")

    @cached_property
    def instructions(self) -> list[str]:
        """The operations of the machine code, with their modifiers: LDG.E.128, HGMMA.64x32x16."""
        code = self._disassembled("nvdisasm", "--print-code")
        return re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]+)", code, re.M)

    def count(self, operation: str, modifier: str = "") -> int:
        """The instructions of this operation, and with this modifier."""
        return sum(
            each.split(".")[0] == operation and modifier in each for each in self.instructions
        )

    def _disassembled(self, program: str, option: str) -> str:
        with NamedTemporaryFile(suffix=".cubin") as file:
            file.write(self.cubin)
            file.flush()
            command = [_BINARIES / program, option, file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    @cached_property
    def waits_first(self) -> bool:
        """True if a program waits for the kernel before (programmatic dependent launch) ahead of
        every access to memory but prefetches, and of every exit."""
        waits = [i for i, name in enumerate(self.instructions) if name.startswith("ACQBULK")]
        if len(waits) != 1:
            return False
        before = {name.split(".")[0] for name in self.instructions[: waits[0]]}
        arguments = {"LDC", "LDCU"}  # of the kernel: constants
        touching = {name for name in before - arguments if name.startswith(_MEMORY)}
        return not touching and not before & {"EXIT", "RET"}

    @property
    def registers(self) -> int:
        """Registers of a thread; 255 is all there are."""
        return int(re.findall(r"REG:(\d+)", self.usage)[0])

    @property
    def stack(self) -> int:
        """Bytes of a thread's stack frame, where registers that do not fit are kept."""
        return int(re.findall(r"STACK:(\d+)", self.usage)[0])


@contextlib.contextmanager
def record_launches(
    *, hold: bool = True, every_configuration: bool = False
) -> Iterator[list[Launch]]:
    """Write down the launches of Triton kernels; an autotuned one runs its first configuration, or
    every one in turn.

    A launch holds its arguments, and so their memory, unless told not to.
    """
    launches: list[Launch] = []

    def record(self: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        launches.append(Launch(self, args if hold else (), options if hold else {}, grid))

    def untuned(self: Autotuner, *args: Any, **options: Any) -> None:
        for configuration in self.configs if every_configuration else self.configs[:1]:
            self.fn.run(*args, **options, **configuration.all_kwargs())

    no_device = patch.object(torch.cuda, "device", lambda index: contextlib.nullcontext())
    with (
        patch.object(JITFunction, "run", record),
        patch.object(Autotuner, "run", untuned),
        no_device,
    ):
        yield launches


class _Hopper:
    """As much of a GPU driver as compiling asks for."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def build_for_hopper(launch: Launch) -> Any:
    """Return Triton's own object of a launch as it would be on an H100. Raises what Triton and
    ptxas raise."""
    with patch.object(driver, "_active", _Hopper()):
        return launch.kernel.run(*launch.args, grid=launch.grid, warmup=True, **launch.options)


def compile_for_hopper(launch: Launch) -> Compiled:
    """Compile a launch as it would be on an H100. Raises what Triton and ptxas raise."""
    built = build_for_hopper(launch)
    return Compiled(launch.name, built.asm["ptx"], built.metadata.shared, built.asm["cubin"])

"""Claims on the points of a results file: sweeps with the same file share the work."""

import errno
import os
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from dlm_bench.errors import ClaimWarning

PRESENCE = 0  # the byte on which every process that has the file open holds a shared lock
OFFSETS = 1 << 62  # of the bytes that stand for points; an offset is a signed 64-bit number


class Claims:
    """The points of this process, each a lock on a byte of the empty file OUTPUT.claims.

    The kernel drops the locks at the end of a process, even of a killed process: no claim is ever
    stale. The last process removes the file; after a kill the empty file stays until the next
    sweep. The locks are POSIX locks, for network file systems. A process loses POSIX locks by
    closing any descriptor of the file, so nothing else opens the file. Without locks (Windows) or
    without a file every claim is granted.
    """

    def __init__(self, output: str | os.PathLike[str]) -> None:
        real = Path(os.path.realpath(output))
        self.path = real.with_name(f"{real.name}.claims")
        self._output = real
        self._fd = -1
        self._warned = False

    def __enter__(self) -> Self:
        if not self._output.exists() or self._output.is_file():  # not a pipe or a device
            try:
                self._fd = self._open()
            except ImportError:
                pass
            except OSError as error:
                self._warn(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd < 0:
            return
        import fcntl

        with suppress(OSError):  # others are there, of whom the last to leave finds nobody
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.path.unlink()
        with suppress(OSError):  # there are records in it, or it was there before
            if self._made_folder:
                self.path.parent.rmdir()
        os.close(self._fd)
        self._fd = -1

    def take(self, identity: str) -> bool:
        """Claim a point; False if another process has the point. After any other failure of the
        lock the claim is granted with a warning: waiting would have no end."""
        if self._fd < 0:
            return True
        import fcntl

        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(identity))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):  # POSIX: another process holds it
                return False
            self._warn(error)
        return True

    def drop(self, identity: str) -> None:
        """Give a claim up."""
        if self._fd >= 0:
            import fcntl

            with suppress(OSError):  # it was granted without a lock, or goes when this process ends
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _offset(identity))

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.path}: {error.strerror}; another sweep of the same file at the same time "
                "would measure the same points",
                ClaimWarning,
                stacklevel=3,
            )

    def _open(self) -> int:
        import fcntl

        self._made_folder = not self.path.parent.exists()
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # the last one there removed the folder just now
                continue
            try:
                fcntl.lockf(fd, fcntl.LOCK_SH, 1, PRESENCE)
                if os.path.samestat(os.fstat(fd), self.path.stat()):
                    return fd
            except FileNotFoundError:  # or the file
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)


def _offset(identity: str) -> int:
    return 1 + int(identity, 16) % OFFSETS

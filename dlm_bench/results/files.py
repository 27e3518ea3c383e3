"""Output files, written under another name and renamed: whole or not at all."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlm_bench.errors import DlmBenchError, ResultsError, first_line
from dlm_bench.results.store import locked


@contextmanager
def replacing(
    path: str | os.PathLike[str], what: str, error: type[DlmBenchError] = ResultsError
) -> Iterator[Path]:
    """Give a new file to write, to replace `path` at the end of the block.

    If the block raises, the old file stays and the new file is removed.
    The file has the mode of the old file, or of the umask. A path of another kind, such as
    /dev/stdout, is written in place. An OSError becomes an `error` of `what` and the path.
    """
    try:
        target = Path(os.path.realpath(path))  # a link stays, and its file is replaced
        if target.exists() and not target.is_file():
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder")
            yield Path(path)
            return
        beside = target.parent / f".{secrets.token_hex(6)}.tmp"  # as short for the longest name
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            mode = stat.S_IMODE((target if target.exists() else beside).stat().st_mode)
            yield beside
            # A library may have put a file of its own there.
            if stat.S_IMODE(beside.stat().st_mode) != mode:
                beside.chmod(mode)
            _sync(beside)
            beside.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
    except OSError as caught:
        reason = caught.strerror or first_line(caught)
        raise error(f"{what} {os.fspath(path)!r}: {reason}") from None


def write_file(
    path: str | os.PathLike[str],
    content: str | bytes,
    what: str,
    error: type[DlmBenchError] = ResultsError,
) -> None:
    """Write a file by `replacing`, a text as UTF-8, and create the folder."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as caught:
        taken = isinstance(caught, FileExistsError)
        reason = "its folder is a file" if taken else caught.strerror
        raise error(f"{what} {os.fspath(path)!r}: {reason}") from None
    with replacing(path, what, error) as beside, open(beside, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def append_text(path: str | os.PathLike[str], text: str, what: str) -> None:
    """Append to a file with other writers, to a pipe or a device. After a failure nothing of the
    text stays in a file."""
    try:
        with open(path, "ab", buffering=0) as file, locked(file.fileno()):
            content, found = text.encode(), os.fstat(file.fileno())
            regular = stat.S_ISREG(found.st_mode)
            try:
                while content:
                    content = content[file.write(content) or 0 :]
                if regular:
                    os.fsync(file.fileno())
            except OSError:
                if regular:  # locked, so that nothing of another writer comes after its end
                    file.truncate(found.st_size)
                raise
    except OSError as caught:
        raise ResultsError(f"{what}: {os.fspath(path)!r}: {caught.strerror}") from None


def _sync(path: Path) -> None:
    """Have the disk take the file: some file systems only now report a full disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

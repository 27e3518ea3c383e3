"""JSON lines that a kill may cut off in the middle of one."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


def append(path: Path | None, *rows: dict[str, Any]) -> None:
    """Add rows to a file, if there is one, in one write; the half row of an earlier kill goes."""
    if path is None:
        return
    added = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with path.open("ab+") as file:
        file.seek(0)
        whole = file.read()
        file.truncate(whole.rfind(b"\n") + 1)
        file.write(added)


def rows_of(path: Path | None) -> Iterator[dict[str, Any]]:
    """The rows of a file that may be absent, without a half one."""
    if path is None or not path.exists():
        return
    for line in path.read_text(errors="replace").splitlines():
        with suppress(json.JSONDecodeError):
            yield json.loads(line)

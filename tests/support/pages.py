"""The pages of the documentation, and the commands that they print."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        ROOT / "bench" / "README.md",
        *(ROOT / "docs").glob("*.md"),
    ]
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
PROGRAMS = re.compile(r"(?:dlm-bench|python|pip|pytest|make|git) |(?:bench|\.ci)/")
_CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_VARIABLE = re.compile(r"^(?:[A-Z_]+=\S+ )+")


def blocks(page: str, language: str) -> list[str]:
    """The fenced code of a language."""
    return [code for found, code in _CODE.findall(page) if found == language]


def outputs(page: str) -> list[tuple[str, list[str]]]:
    """(command, lines of its output) of each ```console block."""
    found = []
    for block in blocks(page, "console"):
        first, *lines = block.splitlines()
        found.append((first.removeprefix("$ "), lines))
    return found


def commands(page: str) -> list[str]:
    """Each command of the page's indented and console blocks, without comment or variables."""
    found = [command for command, _ in outputs(page)]
    text = re.sub(r"\\\n\s*", "", _CODE.sub("", page))
    for line in re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE):
        code = _VARIABLE.sub("", re.sub(r"\s+# .*", "", line))
        loop = re.match(r"for .*; do (.*); done", code)
        for part in (loop[1] if loop else code).split(" && "):
            if PROGRAMS.match(part):
                found.append(part.strip())
    return found


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def anchors(page: str) -> set[str]:
    """The anchors of a page."""
    return {slug(each) for each in re.findall(r"^#+ (.*)$", _CODE.sub("", page), re.MULTILINE)}

"""Count words to use sparingly in the documentation and in the docstrings.

    python bench/prose.py [--docstrings]

Prints, for each page and for the docstrings of each folder, the share of the words that, which,
what, whose, it, its and one. Each is a sign of a clause in the place of a noun. With --docstrings:
the docstrings with a sentence that begins with What, Whether, How or That. Code is not counted.
"""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPARE = re.compile(r"\b(that|which|what|whose|it|its|one)\b", re.IGNORECASE)
CLAUSE = re.compile(r"(?:^|[.:!?]\s+|\n\n\s*)(What|Whether|How|That)\b")


def pages() -> list[Path]:
    """The README and the pages of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def prose_of(page: str) -> str:
    """The words of a page in Markdown: no code, in blocks or in lines, no addresses of links."""
    page = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    page = re.sub(r"(?:^|\n)\n(?:(?: {4}.*)?\n)+", "\n\n", page)
    page = re.sub(r"`[^`]*`", "", page)
    return re.sub(r"\]\([^)]*\)", "]", page)


def docstrings(folder: Path) -> Iterator[tuple[str, str]]:
    """(place, text) of every docstring of the Python files in a folder."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            text = ast.get_docstring(node) if isinstance(node, kinds) else None
            if text:
                line = getattr(node, "lineno", 1)
                yield f"{path.relative_to(ROOT)}:{line}", text


def share(texts: list[str]) -> tuple[int, float]:
    """The number of words, and how many of 100 are among the spare ones."""
    words = sum(len(re.findall(r"[A-Za-z][\w'-]*", text)) for text in texts)
    return words, 100 * sum(len(SPARE.findall(text)) for text in texts) / max(words, 1)


def begins_with_a_clause(text: str) -> bool:
    """Say whether a sentence of a docstring begins with What, Whether, How or That."""
    return CLAUSE.search(text) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--docstrings", action="store_true", help="print the faulty docstrings")
    args = parser.parse_args()
    texts = {str(path.relative_to(ROOT)): [prose_of(path.read_text())] for path in pages()}
    texts["README and docs"] = [text for (text,) in texts.values()]
    found = list(docstrings(ROOT / "dlm_bench"))
    for folder in sorted({place.split("/")[1] for place, _ in found if place.count("/") > 1}):
        texts[f"docstrings of {folder}/"] = [t for p, t in found if p.split("/")[1] == folder]
    texts["docstrings"] = [text for _, text in found]
    for name, each in texts.items():
        words, of_100 = share(each)
        print(f"{name:32} {words:7,} words {of_100:6.2f} in 100")
    faulty = [place for place, text in found if begins_with_a_clause(text)]
    print(f"{len(faulty)} docstrings with a sentence that begins with What, Whether, How or That")
    if args.docstrings:
        print(*faulty, sep="\n")


if __name__ == "__main__":
    main()

"""The documentation: links, references, and the words of the paper in the places it names."""

import re
import subprocess
import tomllib

import make_references
import prose
import pytest
from support.pages import NAMES, ROOT, anchors, blocks

import dlm_bench

LINK = re.compile(r"\]\(([^)\s]+)\)")
SOURCES = ("*.py", "*.toml", "*.md", "*.yml", "*.sh", "Makefile", ".ci/*")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name):
    page = read(name)
    text = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    broken = []
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / name).parent / path if path else ROOT / name
        if not there.exists() or (anchor and anchor not in anchors(there.read_text())):
            broken.append(target)
    assert broken == []


def test_every_page_that_the_code_names_exists():
    listed = subprocess.run(
        ["git", "ls-files", *SOURCES], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    named = {
        page
        for source in listed
        if (ROOT / source).is_file()
        for page in re.findall(r"\bdocs/[\w-]+\.md", read(source))
    }
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_a_page_names_exists(name):
    named = re.findall(r"`((?:tests|bench|dlm_bench|examples|\.ci)/[\w/.-]+)`", read(name))
    real = [path for path in named if not re.search("NAME|OPERATION", path)]
    assert [path for path in real if not (ROOT / path).exists()] == []


def test_every_page_is_in_the_index():
    listed = set(LINK.findall(read("docs/README.md")))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages - listed == set()


@pytest.mark.parametrize("name", make_references.PAGES)
def test_a_reference_is_what_the_code_says(name):
    """If not: python bench/make_references.py."""
    page = read(f"docs/{name}")
    assert make_references.PART.search(page)
    assert make_references.rendered(page) == page


def test_a_reference_without_the_meaning_of_a_field_is_refused():
    with pytest.raises(SystemExit, match="nfe"):
        make_references.meanings(["nfe"], {}, "RECORD")


def test_the_readme_is_short():
    assert len(read("README.md").splitlines()) < 150


def scripts():
    """The Python of each page that imports what it needs; plug-ins have tests of their own."""
    return [
        pytest.param(code, id=f"{name}-{number}")
        for name in NAMES
        for number, code in enumerate(blocks(read(name), "python"))
        if "import dlm_bench\n" in code
    ]


@pytest.mark.parametrize("code", scripts())
def test_python_on_a_page_runs(code, tmp_path, monkeypatch):
    """At reduced size."""
    for large, reduced in (('"small"', '"tiny"'), ("256, seed", "32, seed"), ("1024", "64")):
        code = code.replace(large, reduced)
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code.replace("state, 100", "state, 3"), "page", "exec"), names)
    if "tokens = sampler" in code:
        assert names["tokens"].shape == (1, 32)


def test_the_readme_shows_the_contract():
    (code,) = blocks(read("README.md"), "python")
    shown = ("build_model", "build_sampler", "measure", "fit_latency", "load_results")
    assert [name for name in shown if f"dlm_bench.{name}(" not in code] == []
    for name in ("schedule", "forward_passes", "query_tokens", "decode"):
        assert f".{name}" in code


@pytest.mark.parametrize("name", ["docs/paper.md", "docs/architecture.md"])
def test_files_and_functions_are_where_a_page_says(name):
    wrong = []
    for row in re.findall(r"^\|.*\|$", read(name), re.MULTILINE):
        paths = re.findall(r"`(dlm_bench/[\w/]+\.py)`", row)
        wrong += [path for path in paths if not (ROOT / path).exists()]
        if not paths or wrong or row.count("|") < 4:
            continue
        source = "".join(read(path) for path in paths)
        for function in re.findall(r"`([\w.]+)`", row.split("|")[-2]):
            for part in function.split("."):
                if not re.search(rf"(?:def|class) {part}\b", source):
                    wrong.append(function)
    assert wrong == []


def test_the_version_is_the_same_everywhere():
    version = dlm_bench.__version__
    assert re.search(rf"^version: {re.escape(version)}$", read("CITATION.cff"), re.MULTILINE)
    assert f"\n## {version}" in read("CHANGELOG.md")


def test_the_package_is_typed_and_licensed():
    project = tomllib.loads(read("pyproject.toml"))
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["dlm_bench"]
    assert (ROOT / "dlm_bench" / "py.typed").exists()
    assert project["project"]["license"] == "Apache-2.0"
    assert "Apache License" in read("LICENSE").splitlines()[0]


def test_prose_is_plain():
    """Few clauses with that, which, what, whose, it, its and one (bench/prose.py)."""
    _, of_100 = prose.share([prose.prose_of(page.read_text()) for page in prose.pages()])
    assert of_100 < 3.5


@pytest.mark.parametrize(
    ("text", "faulty"),
    [
        ("Return the sum.", False),
        ("What it is.", True),
        ("A sum. How it is made: by adding.", True),
        ("Say whether it is there.", False),
    ],
)
def test_a_docstring_that_begins_with_a_clause_is_seen(text, faulty):
    assert prose.begins_with_a_clause(text) == faulty


def test_code_is_no_prose():
    page = "It is `that which`.\n\n    dlm-bench one\n\n```text\nwhat\n```\n"
    assert prose.prose_of(page).split() == ["It", "is", "."]

"""Files and modules that the pages name exist: a page must not name what was moved."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP_FOLDERS = (
    "trainer",
    "serving",
    "tfx_pipeline",
    "tests",
    "benchmarks",
    "scripts",
    "docs",
    "client",
)
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]
PATH = re.compile(rf"`((?:{'|'.join(TOP_FOLDERS)})/[\w/.*-]+)`(?! \(new\))")
MODULE = re.compile(
    r"`((?:trainer|serving|tfx_pipeline|tagtower_client|benchmarks|tests)(?:\.\w+)+)`"
)


def is_there(path: Path) -> bool:
    """Returns whether a path is a file, or a folder with more than compiled Python."""
    return path.is_file() or any(
        child.is_file() for child in path.rglob("*") if child.parent.name != "__pycache__"
    )


def missing_paths(text: str) -> list[str]:
    return [
        path
        for path in PATH.findall(text)
        if not any(is_there(found) for found in ROOT.glob(path.rstrip("/")))
    ]


def missing_modules(text: str) -> list[str]:
    """Returns dotted names of which no module is the whole, or all but the last one or two."""
    found = []
    for name in MODULE.findall(text):
        parts = name.split(".")
        stems = ["/".join(parts[:end]) for end in range(len(parts), max(len(parts) - 3, 0), -1)]
        if not any((ROOT / f"{stem}.py").is_file() or (ROOT / stem).is_dir() for stem in stems):
            found.append(name)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_and_module_on_a_page_is_there(page):
    text = page.read_text(encoding="utf-8")

    assert missing_paths(text) == []
    assert missing_modules(text) == []


def test_what_is_not_there_is_seen():
    assert missing_paths("`trainer/history.py`, `trainer/contract/history.py`, `docs/*.md`") == [
        "trainer/history.py"
    ]
    assert missing_paths("`trainer/sum_pooling.py` (new)") == []
    assert missing_modules("`trainer.lost.part.f`, `trainer.contract.history.UserEvents`") == [
        "trainer.lost.part.f"
    ]

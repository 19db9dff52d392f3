"""Checks mechanically that docstrings are plain: length of summaries, form of Args lines."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("trainer", "serving", "tfx_pipeline", "client", "benchmarks", "scripts", "tests")
LEAST_WORDS = 3
# Lines of Args or Attributes that begin with a fragment instead of naming the thing.
ITEM = re.compile(r"^ +\*{0,2}(\w+): +(Of|Whose|Theirs|That|Those|Such|See)\b")
SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:", "Yields:")


def docstrings(source: str) -> Iterator[tuple[int, str, str]]:
    """Yields line, name and text of each docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=True)
            if text is not None:
                name = getattr(node, "name", "module")
                yield getattr(node, "lineno", 1), name, text


def faults(text: str) -> list[str]:
    """Returns the faults of a docstring, as sentences."""
    found = []
    summary = text.split("\n\n")[0]
    if len(summary.split()) < LEAST_WORDS:
        found.append(f"its summary has fewer than {LEAST_WORDS} words: {summary!r}")
    section = ""
    for line in text.split("\n"):
        if line.strip() in SECTIONS:
            section = line.strip()
        elif section in ("Args:", "Attributes:") and (match := ITEM.match(line)):
            found.append(f"{match[1]} is not named by its line: {line.strip()!r}")
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_summaries_have_words_and_lines_name_the_thing(folder):
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}: {fault}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name, text in docstrings(path.read_text(encoding="utf-8"))
        for fault in faults(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Latest one.", 1),
        ("Returns the latest version.", 0),
        ("Reads the versions.\n\nArgs:\n  path: Of the folder.\n  port: Port of the server.", 1),
        ("A version that serves.\n\nAttributes:\n  number: That of its folder.", 1),
        ("Reads the versions.\n\nReturns:\n  path: Of the folder.", 0),
    ],
)
def test_fault_is_seen(text, number):
    assert len(faults(text)) == number

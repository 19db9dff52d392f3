"""Reads docs/report.md to tell which keys a report may have.

The page is for people first: its tables have patterns of keys in their first column, and the values
of the patterns' names in a table of their own.
"""

import re
from collections.abc import Iterable
from pathlib import Path

DOC_PATH = Path(__file__).resolve().parent.parent / "docs" / "report.md"
_NAME = re.compile(r"<\w+>")
_TOKEN = re.compile(r"(<\w+>|\[|\])")


def undocumented_keys(report: Iterable[str], doc_path: str | Path = DOC_PATH) -> list[str]:
    """Returns the keys of a report that match no pattern of the page, sorted.

    Args:
      report: A flat report, or its keys.
      doc_path: Path of the page.

    Returns:
      The keys; empty if all are documented.

    Raises:
      ValueError: A pattern has a name that the page does not explain.
    """
    patterns = [compile_pattern(p, read_names(doc_path)) for p in read_patterns(doc_path)]
    return sorted(key for key in report if not any(p.fullmatch(key) for p in patterns))


def read_patterns(doc_path: str | Path = DOC_PATH) -> list[str]:
    """Returns the patterns in order, as they are written."""
    return [first for first, _ in _rows(doc_path) if not _NAME.fullmatch(first)]


def read_names(doc_path: str | Path = DOC_PATH) -> dict[str, list[str]]:
    """Returns, by `<name>`, its values; an empty list allows any value."""
    return {
        first: re.findall(r"`([^`]+)`", second)
        for first, second in _rows(doc_path)
        if _NAME.fullmatch(first)
    }


def compile_pattern(pattern: str, names: dict[str, list[str]]) -> re.Pattern[str]:
    """Returns a pattern of the page as a regular expression."""
    parts = []
    for token in _TOKEN.split(pattern):
        if token in ("[", "]"):
            parts.append("(?:" if token == "[" else ")?")
        elif _NAME.fullmatch(token):
            if token not in names:
                raise ValueError(f"`{pattern}` has a name that is not explained: {token}.")
            values = "|".join(map(re.escape, names[token])) or r"[^.]+"
            parts.append(f"(?:{values})")
        else:
            parts.append(re.escape(token))
    return re.compile("".join(parts))


def _rows(doc_path: str | Path) -> list[tuple[str, str]]:
    """Returns the first cell, unquoted, and the second of every row that begins with code."""
    lines = Path(doc_path).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    return [(row[0].strip("`"), row[1]) for row in cells if row[0].startswith("`")]

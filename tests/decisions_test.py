"""The records in docs/decisions/ are short, numbered, of one form, and all in the index."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
PARTS = ["Context", "Decision", "Consequences"]
# Records of libraries that were tried say what was run, and what was observed.
PARTS_OF_A_TRIAL = ["Context", "Tried", "Decision", "Consequences"]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_record_has_its_number_and_short_parts(path):
    title, *parts = path.read_text(encoding="utf-8").split("\n## ")

    assert re.fullmatch(r"\d{4}-[a-z0-9-]+", path.stem)
    assert title.startswith(f"# {path.stem[:4]}: ")
    assert [part.partition("\n")[0] for part in parts] in (PARTS, PARTS_OF_A_TRIAL)
    assert all(3 < len(part.partition("\n")[2].split()) < 300 for part in parts)


def test_no_number_is_there_twice():
    numbers = [path.stem[:4] for path in RECORDS]

    assert len(numbers) >= 17
    assert len(set(numbers)) == len(numbers)


def test_index_lists_every_record_with_its_title_in_order():
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d{4}) \| \[(.+)\]\((.+)\) \|$", index, re.MULTILINE)
    titles = [path.read_text(encoding="utf-8").partition("\n")[0][2:] for path in RECORDS]

    assert [f"{number}: {title}" for number, title, _ in rows] == titles
    assert [name for _, _, name in rows] == [path.name for path in RECORDS]

"""docs/api.md agrees with the docstrings."""

import re
from pathlib import Path

import serving.client
from tfx_pipeline.reference.api import api_reference, docstring_lines

PAGE = Path(__file__).resolve().parents[3] / "docs" / "api.md"


class Counter:
    """Counts things once or twice.

    Args:
      start: Where it begins,
        in two lines.
    """

    def __init__(self, start: int = 0):
        self.start = start

    def count(self, things: list[str], *, twice: bool = False) -> int:
        """Counts the given things.

        Args:
          things: What is counted.
          twice: Whether each counts two.

        Returns:
          How many
          there are.
        """
        return self.start + len(things) * (1 + twice)

    def _hidden(self):
        """Does nothing public."""


def test_page_equals_the_docstrings():
    assert PAGE.read_text(encoding="utf-8") == api_reference(), "run `make docs`"


def test_class_and_its_public_methods_are_described():
    page = api_reference([Counter])

    assert page[page.index("## Counter") :] == (
        f"## Counter\n\n```python\nfrom {__name__} import Counter\n```\n\n"
        "Counts things once or twice.\n\n"
        "**Args**\n\n- `start`: Where it begins, in two lines.\n\n"
        "### Counter.count\n\n```\nCounter.count(things, *, twice=False)\n```\n\n"
        "Counts the given things.\n\n"
        "**Args**\n\n- `things`: What is counted.\n- `twice`: Whether each counts two.\n\n"
        "**Returns**\n\nHow many there are.\n"
    )


def test_everything_that_a_caller_imports_has_a_section():
    sections = re.findall(r"^## (\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert sections[0] == "TagClient"
    assert sorted(sections) == sorted([*serving.client.__all__, "TagItems"])


def test_text_behind_a_section_is_kept():
    text = "Does it.\n\nRaises:\n  ValueError: Never.\n\nAnd more."

    assert "\n".join(docstring_lines(text)) == (
        "Does it.\n\n**Raises**\n\n- `ValueError`: Never.\n\nAnd more.\n"
    )

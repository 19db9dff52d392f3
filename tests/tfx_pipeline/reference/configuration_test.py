"""docs/configuration.md agrees with the dataclasses."""

import dataclasses
import typing
from pathlib import Path
from typing import Literal

import pytest
import yaml

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.reference.configuration import configuration_reference
from trainer.contract.config_loader import from_mapping

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the whole,
    in two lines.

    More that is not for the page.

    Attributes:
      share: How much.
    """

    share: float = 0.5


@dataclasses.dataclass(frozen=True)
class Whole:
    """All of it.

    Attributes:
      name: Its name; a | b.
      kind: Which one.
      limit: At most; null: none.
      words: Some words.
      one: One part.
      many: Some parts.
      named: Parts by name.
    """

    name: str
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
    words: tuple[str, ...] = ("|", "no")
    one: Part = dataclasses.field(default_factory=Part)
    many: tuple[Part, ...] = ()
    named: dict[str, Part] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Forgotten:
    """One attribute has no text.

    Attributes:
      first: A text.
    """

    first: int = 1
    second: int = 2


def test_page_equals_the_dataclasses():
    assert PAGE.read_text(encoding="utf-8") == configuration_reference(), "run `make docs`"


def test_rows_give_key_type_default_and_meaning():
    rows = [line for line in configuration_reference(Whole).splitlines() if line[:3] == "| `"]

    assert rows == [
        r"| `name` | text | **required** | Its name; a \| b. |",
        "| `kind` | `a` or `b` | `a` | Which one. |",
        "| `limit` | integer or null | `null` | At most; null: none. |",
        r"| `words` | list of text | `['\|', 'no']` | Some words. |",
        "| `one` | [section](#one) | its defaults | One part. |",
        "| `many` | list of [section](#many) | `[]` | Some parts. |",
        "| `named` | [section](#namedname) by name | `{}` | Parts by name. |",
        "| `one.share` | number | `0.5` | How much. |",
        "| `many[].share` | number | `0.5` | How much. |",
        "| `named.<name>.share` | number | `0.5` | How much. |",
    ]


def test_section_begins_with_the_first_paragraph_of_its_class():
    page = configuration_reference(Whole)

    assert "\n## `many[]`\n\nA part of the whole, in two lines.\n\n| key |" in page
    assert "not for the page" not in page


def test_attribute_without_a_text_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^`Forgotten\.second` must be documented"):
        configuration_reference(Forgotten)


def count_keys(cls):
    """Counts the fields of a dataclass and of its sections, in another way than the page does."""
    total = 0
    for kind in typing.get_type_hints(cls).values():
        inner = [kind, *typing.get_args(kind)]
        total += 1 + sum(count_keys(one) for one in inner if dataclasses.is_dataclass(one))
    return total


def test_every_key_has_a_row_with_a_text():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]

    assert len(rows) == count_keys(PipelineConfig) > 60
    assert all(len(row) == 4 and row[3] for row in rows)


def test_documented_defaults_are_accepted_as_written():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").replace(r"\|", "|").split(" | ", 3) for line in lines if "| `" in line]
    mapping = {
        "name": "x",
        "data": {"interactions": "a", "items": "b", "users": "c"},
        "features": {"domains": [{"name": "clicked_tags"}]},
    }
    for key, _, default, _ in rows:
        *path, name = key.strip("`").split(".")
        if default.startswith("`") and not {"[]", "<name>"} & set(
            key.replace("[]", ".[]").split(".")
        ):
            section = mapping
            for part in path:
                # A section that is null by default has keys only where it is given.
                section = {} if section is None else section.setdefault(part, {})
            if section is not None:
                section.setdefault(name, yaml.safe_load(default.strip("`")))

    written = from_mapping(PipelineConfig, mapping)

    assert written.model == PipelineConfig.__dataclass_fields__["model"].default_factory()
    assert written.data.list_separator is None and written.data.list_notation == "|"
    assert written.index.num_leaves is None

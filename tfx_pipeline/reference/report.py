"""The reference of all keys of a report, generated from their registry: docs/report.md.

    python -m tfx_pipeline.reference.report > docs/report.md

`tfx_pipeline.reference.report_keys` has the keys; nothing is written twice.
"""

import sys
from collections.abc import Iterator, Sequence

from tfx_pipeline.reference.report_keys import Group, Name, Registry, Section, read_registry

_INTRODUCTION = """\
# Figures that a run or a benchmark leaves

<!-- Generated from the registry of keys by `make docs`; a test holds both equal. -->

`tagtower run` writes `report.json` into its output folder, `make bench` writes
`build/bench/NAME.json`. Each is one flat JSON object with dotted keys and one value for each key. A
value that is not defined, because there is nothing to measure it on, is `null` and never 0.

In a key, `<name>` stands for one of the values listed under [Names](#names), and a part in `[...]`
may be missing. A *share* lies between 0 and 1. Times are wall-clock times. A complete report has a
key for every row, unless the row or the line above its table says when the key is absent; a run
that ended before its last node has the keys of what it did.
"""


def report_reference(registry: Registry | None = None) -> str:
    """Returns the whole page: a section for each section of the registry, a row for each key.

    Args:
      registry: Registry of the keys; None: that of all reports.

    Returns:
      Markdown, ending with a line break.
    """
    registry = read_registry() if registry is None else registry
    sections = (line for section in registry.sections for line in _section(section))
    return "\n".join([_INTRODUCTION, *sections, *_names(registry.names)])


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}\n"
    if section.introduction:
        yield f"{section.introduction.strip()}\n"
    for group in section.groups:
        yield from _group(group)


def _group(group: Group) -> Iterator[str]:
    """Yields what is said of a group of keys, and its table."""
    sentences = [group.introduction.strip(), f"Written by `{group.writer}`."]
    if group.absent:
        sentences.append(f"These keys are absent {group.absent}.")
    yield " ".join(filter(None, sentences)) + "\n"
    yield "| key | unit | meaning |\n| --- | --- | --- |"
    for key in group.all_keys:
        absent = f" The key is absent {key.absent}." if key.absent else ""
        yield f"| `{key.key}` | {key.unit} | {key.meaning}{absent} |"
    yield ""


def _names(names: Sequence[Name]) -> Iterator[str]:
    yield "## Names\n"
    yield "| name | meaning | values |\n| --- | --- | --- |"
    for name in names:
        cells = [f"`<{name.name}>`", name.meaning, _values(name.explained)]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _values(explained: dict[str, str]) -> str:
    """Returns the values in one cell; a value that is explained has a line of its own."""
    plain = " ".join(f"`{value}`" for value, text in explained.items() if not text)
    lines = [f"`{value}`: {text}" for value, text in explained.items() if text]
    return "<br>".join(filter(None, [plain, *lines])) or "any"


if __name__ == "__main__":
    sys.stdout.write(report_reference())

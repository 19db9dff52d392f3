"""Whether tags look like lists in a notation that nobody has declared.

Each such list would be taken for one tag in silence. So the texts of a whole table are looked at
before anything is made of them, and the answer depends on their number alone: not on their order,
and not on files or batches.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence

import pyarrow.compute as pc

from tfx_pipeline.config.data import DEFAULT_SEPARATOR
from tfx_pipeline.tables.arrow_files import (
    read_batches,
)
from tfx_pipeline.tables.cells import as_plain, decode_utf8
from tfx_pipeline.tables.list_notation import JSON, PYTHON, parse_list
from tfx_pipeline.tables.parquet_rows import DEFAULT_BATCH_ROWS, text_column
from tfx_pipeline.tables.read_limits import BATCH_BYTES, ReadLimits, lines_of
from tfx_pipeline.tables.schema import ITEMS
from tfx_pipeline.tables.table_files import JSON_LINES, PARQUET, open_file, table_format
from tfx_pipeline.tables.unreadable import readable
from trainer.contract.arrow import pa
from trainer.contract.file_system import is_remote

# What a list may look like -> how it is said. The first wins among equals.
_SAID = {
    JSON: "in JSON",
    PYTHON: "as Python prints them",
    ";": "with semicolons",
    ",": "with commas",
    "\t": "with tabs",
}
# A separator has a value on both sides.
_SEPARATED = {mark: re.compile(rf"[^{mark}\s]\s*{mark}\s*[^{mark}\s]") for mark in ";,\t"}
_BRACKETS = ("[", "(", "{")
_SUSPECT = r"[;,\t\[({]"
# Most of the texts are lists, and nothing more need be known. A tag can have a comma in it: of
# fewer texts, from a tenth on, the values between the separators must be tags of their own.
_MOST, _SOME = 0.5, 0.1
_SHOWN_CHARACTERS = 80
_TAGS = dataclasses.replace(ITEMS, columns=tuple(c for c in ITEMS.columns if c.name == "tags"))


@dataclasses.dataclass(frozen=True)
class UndeclaredLists:
    """What was seen.

    Attributes:
      notation: the value of `data.list_separator` that says it.
      num_lists: texts that look like lists in any notation that was not declared.
      num_texts: texts that are not blank.
      example: one of them.
      file: where it is.
    """

    notation: str
    num_lists: int
    num_texts: int
    example: str
    file: str

    def __str__(self) -> str:
        """One line: what is wrong, what was seen, what to set."""
        shown = self.example[:_SHOWN_CHARACTERS]
        return (
            "`data.list_separator` must say how the tags of an item are written. Received: none, "
            f"and {self.num_lists} of {self.num_texts} texts look like lists, such as {shown!r} in "
            f"{self.file} ({_SAID[self.notation]}). Set it to {json.dumps(self.notation)}, or to "
            f"{json.dumps(DEFAULT_SEPARATOR)} if each text is one tag."
        )


def undeclared_lists(
    paths: Sequence[str], limits: ReadLimits = ITEMS.limits
) -> UndeclaredLists | None:
    """Looks for tags in texts that look like lists in another notation than the default.

    Args:
      paths: the files of `items`.
      limits: what they may cost in memory.

    Returns:
      What was seen; None where the tags are what they are taken for.

    Raises:
      ValueError: a file cannot be read to its end.
    """
    if any(is_remote(path) for path in paths):
        return _find(paths, limits)
    # A command asks more than once, and a table is read whole.
    stats = [os.stat(path) for path in paths]
    stamps = [(stat.st_mtime_ns, stat.st_size) for stat in stats]
    return _remembered(tuple(zip(paths, stamps, strict=True)), limits)


@functools.lru_cache(maxsize=8)
def _remembered(
    files: tuple[tuple[str, tuple[int, int]], ...], limits: ReadLimits
) -> UndeclaredLists | None:
    return _find([path for path, _ in files], limits)


def _find(paths: Sequence[str], limits: ReadLimits) -> UndeclaredLists | None:
    num_texts = num_default = num_other = 0
    num_lists: collections.Counter[str] = collections.Counter()
    examples: dict[str, tuple[str, str]] = {}
    single: set[str] = set()
    for texts, path in _texts(paths, limits):
        num_texts += len(texts)
        is_suspect = pc.match_substring_regex(texts, _SUSPECT)
        plain = texts.filter(pc.invert(is_suspect))
        has_default = pc.match_substring(plain, DEFAULT_SEPARATOR)
        num_default += pc.sum(has_default).as_py() or 0
        single.update(plain.filter(pc.invert(has_default)).unique().to_pylist())
        for text in texts.filter(is_suspect).to_pylist():
            looks = _looks(text)
            num_other += bool(looks)
            num_default += not looks and DEFAULT_SEPARATOR in text
            for notation in looks:
                num_lists[notation] += 1
                examples[notation] = min((text, path), examples.get(notation, (text, path)))
    if num_other <= _SOME * num_texts or num_other <= num_default:
        return None
    notation = max(_SAID, key=lambda each: num_lists[each])
    if num_other <= _MOST * num_texts and not _hold_tags(paths, limits, notation, single):
        return None
    return UndeclaredLists(notation, num_other, num_texts, *examples[notation])


def _looks(text: str) -> list[str]:
    """The notations in which a text looks like a list; none where the default separates it."""
    if text.startswith(_BRACKETS) and (text[0] == "[" or "'" in text or '"' in text):
        found = [notation for notation in (JSON, PYTHON) if parse_list(text, notation) is not None]
        if found:
            return found
    if DEFAULT_SEPARATOR in text:
        return []
    return [mark for mark, pattern in _SEPARATED.items() if pattern.search(text)]


def _hold_tags(paths: Sequence[str], limits: ReadLimits, notation: str, single: set[str]) -> bool:
    """Whether most of the texts in a notation consist of what stands elsewhere alone."""
    single = {text.lower() for text in single}
    num_of_tags = num_all = 0
    for texts, _ in _texts(paths, limits):
        for text in texts.filter(pc.match_substring_regex(texts, _SUSPECT)).to_pylist():
            if notation in _looks(text):
                is_split = notation in _SEPARATED
                values = text.split(notation) if is_split else parse_list(text, notation)
                tags = {value.strip().lower() for value in values or () if value}
                num_all += 1
                num_of_tags += tags - {""} <= single
    return num_of_tags > _MOST * num_all


def _texts(paths: Iterable[str], limits: ReadLimits) -> Iterator[tuple[pa.Array, str]]:
    """The texts in the column `tags`, without blanks at the ends and blank ones, and their file."""
    for path in paths:
        for column in _text_columns(path, limits):
            texts = pc.utf8_trim_whitespace(column)
            yield texts.filter(pc.fill_null(pc.not_equal(texts, ""), False)), path


def _text_columns(path: str, limits: ReadLimits) -> Iterator[pa.Array]:
    found = table_format(path)
    table = dataclasses.replace(_TAGS, limits=limits)
    with readable(path):
        if found == JSON_LINES:
            yield from _json_texts(path, limits)
            return
        if found == PARQUET:
            arrays: Iterator[pa.Array] = text_column(path, "tags", limits)
        else:
            arrays = (batch.rows.column("tags") for batch in read_batches(path, table))
        yield from _texts_of(arrays)


def _texts_of(arrays: Iterable[pa.Array]) -> Iterator[pa.Array]:
    for array in arrays:
        column = as_plain(array)
        if pa.types.is_binary(column.type):
            column, _ = decode_utf8(column)
        if pa.types.is_string(column.type):
            yield column


def _json_texts(path: str, limits: ReadLimits) -> Iterator[pa.Array]:
    # Nearly all files hold lists, and no line of them is parsed for this.
    pattern = re.compile(rb'"tags"\s*:\s*"')
    texts: list[str] = []
    num_bytes = 0
    with open_file(path, limits) as stream:
        for line in lines_of(stream, path, limits):
            if pattern.search(line):
                try:
                    tags = json.loads(line)["tags"]
                    if isinstance(tags, str) and tags.encode("utf-8"):
                        texts.append(tags)
                        num_bytes += len(line)
                except (ValueError, TypeError, KeyError, RecursionError):
                    continue  # a row that is set aside
                if len(texts) == DEFAULT_BATCH_ROWS or num_bytes > BATCH_BYTES:
                    yield pa.array(texts, pa.string())
                    texts, num_bytes = [], 0
    yield pa.array(texts, pa.string())

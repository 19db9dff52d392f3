"""Detects tags that look like lists in an undeclared notation.

Each of these lists would silently be read as one tag. So the texts of a whole table are inspected
before they are used. The result depends only on how many texts look so: not on their order, and not
on files or batches.
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

# Notations that a list may look like, with their words in messages. The first wins a tie.
_SAID = {
    JSON: "in JSON",
    PYTHON: "as Python prints them",
    ";": "with semicolons",
    ",": "with commas",
    "\t": "with tabs",
}
# A separator must have a value on both sides.
_SEPARATED = {mark: re.compile(rf"[^{mark}\s]\s*{mark}\s*[^{mark}\s]") for mark in ";,\t"}
_BRACKETS = ("[", "(", "{")
_SUSPECT = r"[;,\t\[({]"
# Above the first share, the texts are lists without further evidence. A tag can contain a comma:
# from the second share on, the values between the separators must themselves be tags.
_MOST, _SOME = 0.5, 0.1
_SHOWN_CHARACTERS = 80
_TAGS = dataclasses.replace(ITEMS, columns=tuple(c for c in ITEMS.columns if c.name == "tags"))


@dataclasses.dataclass(frozen=True)
class UndeclaredLists:
    """Lists in an undeclared notation: their number, their notation and an example.

    Attributes:
      notation: Value of `data.list_separator` that declares the notation.
      num_lists: Number of texts that look like lists in any undeclared notation.
      num_texts: Number of texts that are not blank.
      example: One of the texts that look like lists.
      file: Path of the file with the example.
    """

    notation: str
    num_lists: int
    num_texts: int
    example: str
    file: str

    def __str__(self) -> str:
        """Returns the message in one line: what is wrong, what was found, what to set."""
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
    """Searches the tags for texts that look like lists in another notation than the default.

    Args:
      paths: Files of `items`.
      limits: Limits on the memory that they may use.

    Returns:
      The lists found; None where the texts are what the default notation takes them for.

    Raises:
      ValueError: A file cannot be read to its end.
    """
    if any(is_remote(path) for path in paths):
        return _find(paths, limits)
    # A command asks more than once, and each time the whole table would be read.
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
    """Returns the notations in which a text looks like a list; none if the default separates it."""
    if text.startswith(_BRACKETS) and (text[0] == "[" or "'" in text or '"' in text):
        found = [notation for notation in (JSON, PYTHON) if parse_list(text, notation) is not None]
        if found:
            return found
    if DEFAULT_SEPARATOR in text:
        return []
    return [mark for mark, pattern in _SEPARATED.items() if pattern.search(text)]


def _hold_tags(paths: Sequence[str], limits: ReadLimits, notation: str, single: set[str]) -> bool:
    """Returns whether most texts in a notation consist only of values that are tags elsewhere."""
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
    """Yields the stripped texts of the column `tags`, without blank ones, and their file."""
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
    # Nearly all files hold JSON lists, and none of their lines is parsed here.
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
                    continue  # this row will be rejected when the table is read
                if len(texts) == DEFAULT_BATCH_ROWS or num_bytes > BATCH_BYTES:
                    yield pa.array(texts, pa.string())
                    texts, num_bytes = [], 0
    yield pa.array(texts, pa.string())

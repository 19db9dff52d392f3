"""Writes the three tables as a stream, and puts them in place with one rename.

Nothing is ever half there: the tables grow in a folder beside the output, which takes the output's
name when all of them are complete.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

INTERACTIONS_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string()),
        pa.field("item_id", pa.string()),
        pa.field("timestamp", pa.int64()),
        pa.field("clicked", pa.int8()),
    ]
)
# Says which command wrote a folder, so that no other folder is ever replaced.
MARKER = "prepared.json"
ROWS_PER_PART = 5_000_000


def _owner(output: str) -> str | None:
    """The command that wrote a folder; None where none did."""
    try:
        with open(os.path.join(output, MARKER), encoding="utf-8") as stream:
            marker = json.load(stream)
    except (OSError, ValueError):
        return None
    return marker.get("command") if isinstance(marker, dict) else None


def check_output(output: str, command: str) -> None:
    """Refuses an output that is not the command's own.

    Args:
      output: the folder to write; absent, empty, or written by the same command before.
      command: name of the command.

    Raises:
      ValueError: it is a file, or a folder with something else in it.
    """
    if not os.path.exists(output) or (os.path.isdir(output) and not os.listdir(output)):
        return
    if not os.path.isdir(output) or _owner(output) != command:
        raise ValueError(
            f"`output` must be a new or empty folder, or an earlier output of `{command}`. "
            f"Received: output={output!r}, which holds something else. Choose another folder."
        )


class TableWriter:
    """Streaming writer of one prepared folder; use it in a `with` statement.

    Leaving the block without an error renames the folder into place; with an error, nothing of
    it stays.
    """

    def __init__(self, output: str, *, command: str, rows_per_part: int = ROWS_PER_PART) -> None:
        """Args as follow.

        Args:
          output: folder that will hold `interactions/`, `items.parquet` and `users.parquet`.
          command: who writes, see `check_output`.
          rows_per_part: a new file of interactions is begun when one has that many rows.
        """
        self._output = os.path.abspath(output)
        self._command = command
        self._rows_per_part = rows_per_part
        self._staging = f"{self._output}.partial-{os.getpid()}"
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._texts: dict[str, TextIO] = {}
        self._num_parts = 0
        self._rows_in_part = 0
        self.num_rows: dict[str, int] = {"interactions": 0, "items": 0, "users": 0}

    def __enter__(self) -> TableWriter:
        """Begins the folder.

        Raises:
          ValueError: see `check_output`.
        """
        check_output(self._output, self._command)
        shutil.rmtree(self._staging, ignore_errors=True)
        os.makedirs(os.path.join(self._staging, "interactions"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Puts the folder in place, or clears it away after an error."""
        try:
            for writer in self._writers.values():
                writer.close()
            for text in self._texts.values():
                text.close()
            if kind is None:
                self._put_in_place()
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)

    def _put_in_place(self) -> None:
        with open(self._path(MARKER), "w", encoding="utf-8") as stream:
            json.dump({"command": self._command, "rows": self.num_rows}, stream, indent=2)
            stream.write("\n")
        check_output(self._output, self._command)
        replaced = f"{self._output}.replaced-{os.getpid()}"
        if os.path.exists(self._output):
            os.rename(self._output, replaced)
        os.rename(self._staging, self._output)
        shutil.rmtree(replaced, ignore_errors=True)

    def _path(self, name: str) -> str:
        return os.path.join(self._staging, name)

    def _write(self, table: str, name: str, rows: pa.Table) -> None:
        if name not in self._writers:
            self._writers[name] = pq.ParquetWriter(self._path(name), rows.schema)
        self._writers[name].write_table(rows)
        self.num_rows[table] += len(rows)

    def write_interactions(self, rows: pa.Table) -> None:
        """Appends rows with the columns `INTERACTIONS_SCHEMA`; a call is at least a row group."""
        name = f"interactions/part-{self._num_parts:05d}.parquet"
        self._write("interactions", name, rows.cast(INTERACTIONS_SCHEMA))
        self._rows_in_part += len(rows)
        if self._rows_in_part >= self._rows_per_part:
            self._writers.pop(name).close()
            self._num_parts += 1
            self._rows_in_part = 0

    def write_items(self, rows: pa.Table) -> None:
        """Appends items; all calls have the same columns."""
        self._write("items", "items.parquet", rows)

    def write_users(self, rows: pa.Table) -> None:
        """Appends users; all calls have the same columns."""
        self._write("users", "users.parquet", rows)

    def write_json_lines(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Appends objects to a file of JSON lines; without any, the file is empty."""
        if name not in self._texts:
            self._texts[name] = open(self._path(name), "w", encoding="utf-8")
        self._texts[name].writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes one file of JSON."""
        with open(self._path(name), "w", encoding="utf-8") as stream:
            json.dump(value, stream, indent=2, ensure_ascii=False)
            stream.write("\n")

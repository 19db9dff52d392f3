"""Writes the three tables as a stream, and puts them in place with one rename.

No half-written tables are ever visible: they grow in a folder beside the output, which is renamed
to the output when all of them are complete. Rows come one after the other into this writer, or as
the parts that workers wrote into that folder (`tfx_pipeline.datasets.part_engine`).
"""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from tfx_pipeline.datasets.growing_files import GrowingFiles
from tfx_pipeline.datasets.interactions_schema import INTERACTIONS_FOLDER, INTERACTIONS_SCHEMA
from tfx_pipeline.datasets.part_files import (
    PIECES_FOLDER,
    UNFINISHED_SUFFIX,
    counts_file,
    interactions_file,
    piece_file,
)
from tfx_pipeline.terminal import interrupts
from trainer.contract import file_system
from trainer.contract.arrow import pa
from trainer.contract.whole_files import read_json, write_json

# File that names the command that wrote a folder, so that no other folder is ever replaced.
MARKER = "prepared.json"
ROWS_PER_PART = 5_000_000


def _owner(output: str) -> str | None:
    """Returns the command that wrote a folder; None where none did."""
    try:
        with file_system.open_file(os.path.join(output, MARKER)) as stream:
            marker = json.load(stream)
    except (OSError, ValueError):
        return None
    return marker.get("command") if isinstance(marker, dict) else None


def check_output(output: str, command: str) -> None:
    """Refuses an output folder that the command did not write.

    Args:
      output: Folder to write to; absent, empty, or an earlier output of the same command.
      command: Name of the command.

    Raises:
      ValueError: The output is a file, or a folder with something else in it.
    """
    is_folder = file_system.is_folder(output)
    if not file_system.exists(output) or (is_folder and not file_system.names_in(output)):
        return
    if not is_folder or _owner(output) != command:
        raise ValueError(
            f"`output` must be a new or empty folder, or an earlier output of `{command}`. "
            f"Received: output={output!r}, which holds something else. Choose another folder."
        )


class TableWriter:
    """Streaming writer of one prepared folder, used in a `with` statement.

    Leaving the block without an error renames the folder into place; after an error, all of it is
    removed.

    Attributes:
      staging: Folder in which the tables grow.
      num_rows: Number of rows written so far, by table.
    """

    def __init__(self, output: str, *, command: str, rows_per_part: int = ROWS_PER_PART) -> None:
        """Initializes without any file.

        Args:
          output: Folder that will hold `interactions/`, `items.parquet` and `users.parquet`.
          command: Name of the command that writes, see `check_output`.
          rows_per_part: Number of rows after which a new file of interactions begins.
        """
        self._output = file_system.absolute(output)
        self._command = command
        self._rows_per_part = rows_per_part
        self.staging = f"{self._output}.partial-{os.getpid()}"
        self._files = GrowingFiles()
        self._num_parts = 0
        self._rows_in_part = 0
        self.num_rows: dict[str, int] = {"interactions": 0, "items": 0, "users": 0}

    def __enter__(self) -> TableWriter:
        """Creates the staging folder.

        Raises:
          ValueError: The output is refused by `check_output`.
        """
        check_output(self._output, self._command)
        file_system.remove_folder(self.staging)
        try:
            # Created here and not by workers: those that do not reach the folder must not create
            # another.
            for name in (INTERACTIONS_FOLDER, PIECES_FOLDER):
                file_system.make_folders(self._path(name))
        except BaseException:  # including an interrupt: `__exit__` is not called after it
            file_system.remove_folder(self.staging)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Puts the folder in place, or removes it after an error."""
        try:
            self._files.close_all()
            if kind is None:
                self._put_in_place()
        finally:
            file_system.remove_folder(self.staging)

    def _put_in_place(self) -> None:
        self._remove_pieces()
        marker = {"command": self._command, "rows": self.num_rows}
        write_json(self._path(MARKER), marker, indent=2, sort_keys=False)
        check_output(self._output, self._command)
        replaced = f"{self._output}.replaced-{os.getpid()}"
        with interrupts.deferred():  # between the two moves no output exists
            if file_system.exists(self._output):
                file_system.move_folder(self._output, replaced)
            file_system.move_folder(self.staging, self._output, last=(MARKER,))
            file_system.remove_folder(replaced)

    def _remove_pieces(self) -> None:
        file_system.remove_folder(self._path(PIECES_FOLDER))
        for path in file_system.files_below(self.staging):
            if path.endswith(UNFINISHED_SUFFIX):  # left by a killed worker
                file_system.remove_file(path)

    def _path(self, name: str) -> str:
        return os.path.join(self.staging, name)

    def _write(self, table: str, name: str, rows: pa.Table) -> None:
        self._files.add_rows(self._path(name), rows)
        self.num_rows[table] += len(rows)

    def write_interactions(self, rows: pa.Table) -> None:
        """Appends rows with the columns `INTERACTIONS_SCHEMA`; a call is at least a row group."""
        name = interactions_file(self._num_parts)
        self._write("interactions", name, rows.cast(INTERACTIONS_SCHEMA))
        self._rows_in_part += len(rows)
        if self._rows_in_part >= self._rows_per_part:
            self._files.close(self._path(name))
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
        self._files.add_json_lines(self._path(name), rows)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes a JSON file into the folder."""
        write_json(self._path(name), value, indent=2, sort_keys=False, ensure_ascii=False)

    def take_parts(self, num_parts: int) -> collections.Counter[str]:
        """Joins the parts of `write_parts`; no other interactions may be written then.

        Args:
          num_parts: Number of the parts.

        Returns:
          Sums of the parts' counts by name.

        Raises:
          ValueError: A part is missing.
        """
        totals: collections.Counter[str] = collections.Counter()
        for index in range(num_parts):
            try:
                done = read_json(self._path(counts_file(index)), "run the command again")
            except FileNotFoundError as error:
                raise ValueError(
                    "`output` must be a folder that all workers reach by the same path. "
                    f"Received: {self._output}, in which part {index} of {num_parts} is missing."
                ) from error
            for name in done["pieces"]:
                self._files.add_file(self._path(name), self._path(piece_file(index, name)))
            totals.update(done["counts"])
        for table in self.num_rows:
            self.num_rows[table] += totals[f"rows.{table}"]
        return totals

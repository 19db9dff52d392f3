"""Files that grow while a data set is read: Parquet by row group, and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from trainer.contract import file_system
from trainer.contract.arrow import pa


class GrowingFiles:
    """Open files by their paths; the first addition creates a file."""

    def __init__(self) -> None:
        """Initializes without any file."""
        self._streams: dict[str, BinaryIO] = {}
        self._tables: dict[str, pq.ParquetWriter] = {}

    def add_rows(self, path: str, rows: pa.Table) -> None:
        """Appends rows to a Parquet file, as at least one row group."""
        if path not in self._tables:
            self._tables[path] = pq.ParquetWriter(self._stream(path), rows.schema)
        self._tables[path].write_table(rows)

    def add_json_lines(self, path: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Appends objects to a file of JSON lines; without any, the file is empty."""
        self._stream(path).writelines(
            (json.dumps(row, ensure_ascii=False) + "\n").encode() for row in rows
        )

    def add_file(self, path: str, piece: str) -> None:
        """Appends the content of another file of the same kind, a row group or a line at a time."""
        with file_system.open_file(piece, "rb") as stream:
            if not path.endswith(".parquet"):
                self._stream(path).writelines(stream)
                return
            table = pq.ParquetFile(stream)
            for group in range(table.num_row_groups):
                self.add_rows(path, table.read_row_group(group))

    def close(self, path: str) -> None:
        """Closes one file."""
        stream = self._streams.pop(path)
        try:
            if path in self._tables:
                self._tables.pop(path).close()
        finally:
            stream.close()

    def close_all(self) -> None:
        """Closes all open files."""
        for path in list(self._streams):
            self.close(path)

    def _stream(self, path: str) -> BinaryIO:
        if path not in self._streams:
            self._streams[path] = file_system.open_file(path, "wb")
        return self._streams[path]

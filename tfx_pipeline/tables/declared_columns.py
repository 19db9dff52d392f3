"""Checks of a file's declared columns: they must exist and have types that can be read.

Undeclared columns are ignored. A declared column that cannot be read is refused before any row is
read, with file, column and type.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tfx_pipeline.tables import schema
from tfx_pipeline.tables.cells import UUID_BYTES
from tfx_pipeline.tables.unreadable import printable
from trainer.contract.arrow import pa

_NUM_SHOWN, _SHOWN_CHARACTERS = 50, 1000
_DEMANDS = {
    schema.ID: "text, whole numbers or 16-byte UUIDs",
    schema.TEXT: "single values (text, numbers, true and false, dates)",
    schema.NUMBER: "numbers",
    schema.TIMESTAMP: "numbers, text, timestamps or dates",
    schema.LIST: "lists of single values, or text",
}


def declared_names(found: Sequence[str], table: schema.TableSchema) -> list[str]:
    """Returns the declared columns among those of a file, in the order of the table."""
    return [column.name for column in table.columns if column.name in found]


def declared_columns(rows: pa.RecordBatch, table: schema.TableSchema) -> pa.RecordBatch:
    """Returns the declared columns of a batch; a required one that the file lacks is empty."""
    found = rows.schema.names
    columns = {name: rows.column(name) for name in declared_names(found, table)}
    for name in table.required_columns:
        columns.setdefault(name, pa.nulls(rows.num_rows))
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def check_file_columns(path: str, found: Sequence[str], table: schema.TableSchema) -> None:
    """Checks that one file has the columns of its table, each once.

    Args:
      path: Path of the file.
      found: Names of its columns.
      table: Schema of the table.

    Raises:
      ValueError: A column that may not be empty is missing, or a declared column occurs twice.
    """
    for column in table.columns:
        if column.is_required and not column.is_nullable and column.name not in found:
            raise _missing(path, column.name, found, table)
        if found.count(column.name) > 1:
            raise ValueError(f"{path} must have each column once. Received twice: {column.name}.")


def check_table_columns(place: str, found: Iterable[str], table: schema.TableSchema) -> None:
    """Checks that every required column is in some file of the table.

    Args:
      place: File, folder or glob of the table.
      found: Names of the columns of all its files.
      table: Schema of the table.

    Raises:
      ValueError: No file has a required column.
    """
    found = list(dict.fromkeys(found))
    for name in table.required_columns:
        if name not in found:
            raise _missing(place, name, found, table)


def check_types(
    path: str, found: pa.Schema, table: schema.TableSchema, empty: Collection[str] = ()
) -> None:
    """Checks the types of the declared columns of one file.

    Args:
      path: Path of the file.
      found: Columns of the file with their types.
      table: Schema of the table.
      empty: Names of the columns without any value, whose types are ignored.

    Raises:
      ValueError: A type cannot hold values of its column's kind.
    """
    for column in table.columns:
        index = found.get_field_index(column.name)
        if index < 0 or column.name in empty or _can_hold(column.kind, found.types[index]):
            continue
        raise ValueError(
            f"{path} must have {_DEMANDS[column.kind]} in the column `{column.name}` "
            f"({table.name}). Received: the type {found.types[index]}. "
            "Write the column with another type."
        )


def _missing(place: str, name: str, found: Iterable[str], table: schema.TableSchema) -> ValueError:
    return ValueError(
        f"{place} must have the column `{name}` ({table.name}). "
        f"Received: {_shown(found)}. Rename or add it."
    )


def _shown(found: Iterable[str]) -> str:
    """Returns names of columns, shortened: a damaged file may have millions, of any length."""
    names = list(found)
    text = printable(", ".join(names[:_NUM_SHOWN]))
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}..."
    more = len(names) - _NUM_SHOWN
    return (text + (f" and {more} more" if more > 0 else "")) or "no column"


def _can_hold(kind: str, found: pa.DataType) -> bool:
    """Returns whether a column of the type can have cells of the kind."""
    if isinstance(found, pa.BaseExtensionType):
        return _can_hold(kind, found.storage_type)
    if pa.types.is_dictionary(found):
        return _can_hold(kind, found.value_type)
    if pa.types.is_null(found) or _is_text(found):
        return True
    if kind == schema.LIST:
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
        is_list = is_list or pa.types.is_fixed_size_list(found)
        return is_list and _can_hold(schema.TEXT, found.value_type)
    if pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found):
        return True
    if kind == schema.NUMBER:
        return pa.types.is_boolean(found)
    is_date = pa.types.is_timestamp(found) or pa.types.is_date(found)
    if kind == schema.TIMESTAMP:
        return is_date
    # Binary of another width is a hash or an internal key, and not text.
    is_uuid = pa.types.is_fixed_size_binary(found) and found.byte_width == UUID_BYTES
    if kind == schema.ID:
        return is_uuid
    return is_uuid or is_date or pa.types.is_time(found) or pa.types.is_boolean(found)


def _is_text(found: pa.DataType) -> bool:
    if pa.types.is_fixed_size_binary(found):
        return False
    return (
        pa.types.is_string(found)
        or pa.types.is_large_string(found)
        or pa.types.is_binary(found)
        or pa.types.is_large_binary(found)
    )

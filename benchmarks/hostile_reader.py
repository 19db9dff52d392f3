"""A process, started by `python -m`, that reads damaged files one after the other, as a run does.

It reads a line of JSON for each file and answers with one. Its memory is limited, and the caller
sees if it dies or hangs.
"""

import json
import resource
import sys
from collections.abc import Iterator
from typing import Any

from tfx_pipeline.tables import arrow_files, schema, undeclared_lists, validate
from tfx_pipeline.tables.item_catalogue import build_item_catalogue

# Outcomes of reading a file. The first two are no faults.
READ, REFUSED = "read", "refused"
UNCLEAR, TRACEBACK, OVER_MEMORY = "unclear", "traceback", "over_memory"

USERS = schema.users_table(["segment"])
NOW = 2_000_000_000


def read_file(path: str, kind: str) -> int:
    """Reads a file to its end.

    Args:
      path: Path of the file.
      kind: Name of a table, or `instances`.

    Returns:
      Number of rows read, good or set aside.
    """
    return sum(1 for _ in _instances(path)) if kind == "instances" else _table(path, kind)


def _table(path: str, kind: str) -> int:
    tables = {"interactions": schema.INTERACTIONS, "items": schema.ITEMS, "users": USERS}
    paths = arrow_files.check_table(path, tables[kind])
    if kind == "items":
        undeclared_lists.undeclared_lists(paths)
    batches = (
        batch
        for split in arrow_files.list_splits(paths)
        for batch in arrow_files.read_batches(split, tables[kind])
    )
    if kind == "items":
        found = [validate.validate_items(batch) for batch in batches]
        build_item_catalogue(found)
    elif kind == "users":
        found = [validate.validate_users(batch, USERS) for batch in batches]
    else:
        found = [validate.validate_interactions(batch, now=NOW) for batch in batches]
    return sum(each.num_read for each in found)


def _instances(path: str) -> Iterator[Any]:
    from serving.batch.input import InstanceReader, find_shards

    is_list = {"clicked_tags": True, "clicked_tags_weights": True, "segment": False}
    input_format, shards = find_shards(path, "auto", 1 << 20)
    reader = InstanceReader(input_format, "user_id", (), is_list)
    for shard in shards:
        yield from reader.read(shard)


def outcome(path: str, kind: str) -> tuple[str, str]:
    """Returns the outcome of reading a file, and the message."""
    try:
        return READ, str(read_file(path, kind))
    except ValueError as error:
        message = str(error)
        is_clear = path in message and message.isprintable() and len(message) < 2_000
        # Arrow's errors are ValueErrors, too, and name no file.
        return (REFUSED if is_clear else UNCLEAR), f"{type(error).__name__}: {message[:500]}"
    except MemoryError as error:
        return OVER_MEMORY, f"{type(error).__name__}: {error}"
    except Exception as error:  # any other exception is a fault
        return TRACEBACK, f"{type(error).__name__}: {str(error)[:500]}"


def main() -> None:
    """Answers lines until the input ends; the argument is the memory limit in megabytes."""
    limit = int(sys.argv[1]) << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for line in sys.stdin:
        question = json.loads(line)
        found, said = outcome(question["path"], question["kind"])
        print(json.dumps({"outcome": found, "said": said}), flush=True)


if __name__ == "__main__":
    main()

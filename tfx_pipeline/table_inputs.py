"""Checks of the tables before a run, and of their counts after reading."""

import os
from collections.abc import Mapping

from tfx_pipeline.daily_window import find_window, table_patterns
from tfx_pipeline.data_config import DataConfig
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.arrow_files import check_files, list_files
from tfx_pipeline.utc_times import utc_text
from trainer.features import SPLITS, FeatureSpec
from trainer.tag_normalization import TagNormalization


def find_tables(data: DataConfig, spec: FeatureSpec) -> dict[str, list[str]]:
    """Finds and checks the files of all tables, of the window's days alone where there is one.

    Args:
      data: Where they are.
      spec: The profile features, which must be columns of `users`.

    Returns:
      By table name, its files.

    Raises:
      ValueError: A table has no file or no row, a file cannot be read, a column is missing, or days
        of the window are.
    """
    users = users_of(spec)
    return {
        table.name: table_files(data, table) for table in (schema.INTERACTIONS, schema.ITEMS, users)
    }


def users_of(spec: FeatureSpec) -> schema.TableSchema:
    """The table of users: its id and the profile features."""
    return schema.users_table(feature.name for feature in spec.profile)


def table_files(data: DataConfig, table: schema.TableSchema) -> list[str]:
    """Finds and checks the files of one table, see `find_tables`."""
    patterns = table_patterns(data, find_window(data))[table.name]
    files = [path for pattern in patterns for path in list_files(pattern)]
    return check_files(files, getattr(data, table.name), table)


def check_counts(counts: Mapping[str, int], data: DataConfig, rejected_dir: str) -> None:
    """Fails where too many rows of a table were set aside, or a part has no example.

    Args:
      counts: As written by `tfx_pipeline.examples`.
      data: The threshold.
      rejected_dir: Where the rows set aside are, for the message.

    Raises:
      ValueError: Too many rows were rejected, or there are too few users or events.
    """
    for table in schema.TABLES:
        num_read = counts.get(f"rows.read.{table}", 0)
        num_rejected = counts.get(f"rows.rejected_of.{table}", 0)
        if num_rejected > data.max_rejected_fraction * num_read:
            prefix = "rows.rejected."
            reasons = {k[len(prefix) :]: n for k, n in counts.items() if k.startswith(prefix)}
            listed = ", ".join(
                f"{reason}: {n}" for reason, n in sorted(reasons.items(), key=lambda r: -r[1])
            )
            raise ValueError(
                f"`data.max_rejected_fraction` must not be exceeded: {num_rejected} of {num_read} "
                f"rows of {table} were rejected, {data.max_rejected_fraction:.2%} are allowed "
                f"({listed}). They are in {os.path.join(rejected_dir, '')}: "
                "mend them, or raise the threshold."
            )
    for split in SPLITS:
        if not counts.get(f"examples.{split}"):
            raise ValueError(_empty_part(split, counts, data.window is not None))


def _empty_part(split: str, counts: Mapping[str, int], has_window: bool) -> str:
    if "split.test_start" not in counts:
        return (
            f"`data.interactions` must have users enough for train, validation and test: "
            f"no user fell into {split}. Received: {counts.get('users.total', 0)} users in all."
        )
    validation = utc_text(counts["split.validation_start"])
    test = utc_text(counts["split.test_start"])
    # What a day's window moves is no date.
    ends = "days" if has_window else "start"
    return (
        "`data.interactions` must have events for train, validation and test: none fell into "
        f"{split}. Received: validation from {validation}, test from {test}. Set "
        f"`examples.validation_{ends}` and `examples.test_{ends}`, or other fractions."
    )


def tag_normalization(data: DataConfig) -> TagNormalization:
    """The configured normalisation in the readers' form."""
    return TagNormalization(
        trim=data.tag_normalization.trim, lowercase=data.tag_normalization.lowercase
    )

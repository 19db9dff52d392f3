"""Checks of the tables before a run, and of the row counts after reading."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.utc_times import utc_text
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.arrow_files import check_files, has_column
from tfx_pipeline.tables.daily_window import find_window, table_patterns
from tfx_pipeline.tables.read_limits import ReadLimits
from tfx_pipeline.tables.table_files import find_files, say_unread
from tfx_pipeline.tables.undeclared_lists import undeclared_lists
from trainer.config import TrainingConfig
from trainer.contract.features import SPLITS, FeatureSpec


def find_tables(data: DataConfig, spec: FeatureSpec) -> dict[str, list[str]]:
    """Finds and checks the files of all tables; with a window, only those of its days.

    Args:
      data: Paths of the tables.
      spec: Feature specification, whose profile features must be columns of `users`.

    Returns:
      Files of each table by its name.

    Raises:
      ValueError: A table has no file or no row, a file cannot be read, a column or days of the
        window are missing, a domain uses categories and the items have none, or lists of tags are
        written in an undeclared notation.
    """
    users = users_of(spec)
    limits = read_limits(data)
    files = {
        table.name: table_files(data, table) for table in (schema.INTERACTIONS, schema.ITEMS, users)
    }
    for domain in spec.domains:
        if domain.attribute == "category":
            check_categories(files["items"], data, f"the domain `{domain.name}` lists them")
            break
    if data.list_separator is None:
        _check_lists_are_declared(files[schema.ITEMS.name], limits)
    return files


def _check_lists_are_declared(paths: list[str], limits: ReadLimits) -> None:
    try:
        found = undeclared_lists(paths, limits)
    except ValueError as error:
        raise ValueError(f"`data.{schema.ITEMS.name}`: {error}") from error
    if found is not None:
        raise ValueError(str(found))


def check_categories(files: list[str], data: DataConfig, reader: str) -> None:
    """Checks that the items have the column `category`, which a part of the model reads.

    Args:
      files: Files of the items.
      data: Configuration of the tables.
      reader: Name of what reads the column, for the message.

    Raises:
      ValueError: No file of the items has the column.
    """
    if not any(has_column(path, limited(schema.ITEMS, data), "category") for path in files):
        raise ValueError(
            f"`data.items` must have the column `category`, as {reader}. Received: {data.items} "
            "without it. Add it, or list another attribute."
        )


def users_of(spec: FeatureSpec) -> schema.TableSchema:
    """Returns the schema of the users table: its id and the profile features."""
    return schema.users_table(spec.profile)


def read_limits(data: DataConfig) -> ReadLimits:
    """Returns the configured limits of what is read, in the readers' form."""
    return ReadLimits(data.max_row_mb << 20, data.max_unpacked_ratio)


def limited(table: schema.TableSchema, data: DataConfig) -> schema.TableSchema:
    """Returns the schema of a table with the configured limits of what is read."""
    return dataclasses.replace(table, limits=read_limits(data))


def table_files(data: DataConfig, table: schema.TableSchema) -> list[str]:
    """Finds and checks the files of one table, as `find_tables` does."""
    patterns = table_patterns(data, find_window(data))[table.name]
    files: list[str] = []
    unread: list[str] = []
    try:
        for pattern in patterns:
            found, others = find_files(pattern)
            files += found
            unread += others
        say_unread(unread, table.name)
        return check_files(files, getattr(data, table.name), limited(table, data))
    except ValueError as error:
        raise ValueError(f"`data.{table.name}`: {error}") from error


def check_counts(
    counts: Mapping[str, int],
    data: DataConfig,
    rejected_dir: str,
    forms: Mapping[str, Any] | None = None,
) -> None:
    """Fails where too many rows were rejected, or users lack profile features or examples.

    Args:
      counts: Counts written by `tfx_pipeline.examples.write_examples`.
      data: Configuration with the thresholds.
      rejected_dir: Folder of the rejected rows, for the message.
      forms: Keys of the report for ids that differ in form; None: there are none.

    Raises:
      ValueError: Too many rows were rejected, too many users have no profile features, there is no
        click, or there are too few users or events.
    """
    forms = forms or {}
    for table in schema.TABLES:
        num_read = counts.get(f"rows.read.{table}", 0)
        reasons = bad_rows(counts, table)
        num_rejected = sum(reasons.values())
        if num_rejected > data.max_rejected_fraction * num_read:
            listed = ", ".join(
                f"{reason}: {n}" for reason, n in sorted(reasons.items(), key=lambda r: -r[1])
            )
            raise ValueError(
                f"`data.max_rejected_fraction` must not be exceeded: {num_rejected} of {num_read} "
                f"rows of {table} were rejected, {data.max_rejected_fraction:.2%} are allowed "
                f"({listed}).{_other_form(forms, table)} They are in "
                f"{os.path.join(rejected_dir, '')}: mend them, or raise the threshold."
            )
    _check_profiles(counts, data, forms)
    _check_events(counts, rejected_dir)
    for split in SPLITS:
        if not counts.get(f"examples.{split}"):
            raise ValueError(_empty_part(split, counts, data.window is not None))


def _check_profiles(counts: Mapping[str, int], data: DataConfig, forms: Mapping[str, Any]) -> None:
    without = counts.get("users.without_profile", 0)
    num_users = counts.get("users.total", 0) - counts.get("users.without_events", 0)
    share = data.max_users_without_profile
    if share is not None and without > share * num_users:
        raise ValueError(
            f"`data.max_users_without_profile` must not be exceeded: {without} of {num_users} "
            f"users with events have no row in users, {share:.2%} are allowed."
            f"{_other_form(forms, 'users')} Write their rows, or raise the threshold."
        )
    num_alike = forms.get("id_forms.users.num", 0)
    if share is None and num_alike > data.max_rejected_fraction * num_users:
        raise ValueError(
            "`data.users` must have the ids of `data.interactions`. Received: "
            f"{num_alike} of {num_users} users with events have no row, but one under an id that "
            f"differs in form alone, {_pair(forms, 'users')}. Write them alike, or set "
            "`data.max_users_without_profile` (1: any) where they are different users."
        )


def _other_form(forms: Mapping[str, Any], table: str) -> str:
    """Returns a sentence on ids that a table has in another form; "" where there are none."""
    if table == "users" and "id_forms.users.num" in forms:
        return (
            f" {forms['id_forms.users.num']} of them have one under an id of another form, "
            f"{_pair(forms, 'users')}."
        )
    if table == "interactions" and "id_forms.items.num" in forms:
        return (
            f" {forms['id_forms.items.num']} of unknown_item name an item in another form, "
            f"{_pair(forms, 'items')}."
        )
    return ""


def _pair(forms: Mapping[str, Any], table: str) -> str:
    in_log, in_table = (forms[f"id_forms.{table}.{key}"] for key in ("in_log", "in_table"))
    return f"as {in_log!r} in interactions and {in_table!r} in {table}"


def _check_events(counts: Mapping[str, int], rejected_dir: str) -> None:
    """Fails where no events or no clicks are left to learn from."""
    num_read = counts.get("rows.read.interactions", 0)
    num_aside = counts.get("rows.rejected_of.interactions", 0)
    if num_read and num_aside == num_read:
        untagged = counts.get(f"rows.rejected_of.interactions.{schema.UNTAGGED_ITEM}", 0)
        raise ValueError(
            "`data.interactions` must have events of items with tags. Received: all "
            f"{num_read} rows were set aside ({schema.UNTAGGED_ITEM}: {untagged}). They are in "
            f"{os.path.join(rejected_dir, '')}."
        )
    if counts.get("rows.skips") and not counts.get("rows.clicks"):
        raise ValueError(
            "`data.interactions` must have clicks (`clicked` 1), which are what is learned. "
            f"Received: {counts['rows.skips']} skips and no click."
        )


def check_skips(counts: Mapping[str, int], training: TrainingConfig) -> None:
    """Fails before training where a click head needs skips and the log has none.

    Args:
      counts: Counts written by `tfx_pipeline.examples.write_examples`.
      training: Training configuration, which defines whether a click loss is trained.

    Raises:
      ValueError: A click head is trained, and the log has no skips.
    """
    if (
        training.click_objective is None
        or counts.get("rows.skips")
        or not counts.get("rows.clicks")
    ):
        return
    keys = ("joint_weight", "split_weight", "attention_weight")
    set_keys = " and ".join(f"`training.{key}`" for key in keys if getattr(training, key))
    raise ValueError(
        "`data.interactions` must have skips (`clicked` 0) where a click head is trained: from "
        "clicks alone it learns nothing, and click GAUC, which the gate asks for, is undefined. "
        f"Received: {counts['rows.clicks']} clicks and no skip. Add what was shown and skipped, or "
        f"set {set_keys} to 0."
    )


def bad_rows(counts: Mapping[str, int], table: str) -> dict[str, int]:
    """Returns the numbers of faulty rows of one table by reason.

    Args:
      counts: Counts written by `tfx_pipeline.examples.write_examples`.
      table: Name of the table.

    Returns:
      Numbers by reason, without rows that are rejected only for items without tags.
    """
    prefix = f"rows.rejected_of.{table}."
    reasons = {key[len(prefix) :]: n for key, n in counts.items() if key.startswith(prefix)}
    return {reason: n for reason, n in reasons.items() if reason not in schema.ORDINARY_REASONS}


def _empty_part(split: str, counts: Mapping[str, int], has_window: bool) -> str:
    if "split.test_start" not in counts:
        return (
            f"`data.interactions` must have enough users for train, validation and test: "
            f"no user fell into {split}. Received: {counts.get('users.total', 0)} users in all. "
            "Read more users, or set other `examples.validation_fraction` and "
            "`examples.test_fraction`."
        )
    validation = utc_text(counts["split.validation_start"])
    test = utc_text(counts["split.test_start"])
    # The start times move with a daily window, so its keys are numbers of days, not dates.
    ends = "days" if has_window else "start"
    return (
        "`data.interactions` must have events for train, validation and test: none fell into "
        f"{split}. Received: validation from {validation}, test from {test}. Set "
        f"`examples.validation_{ends}` and `examples.test_{ends}`, or, without these, other "
        "`examples.validation_fraction` and `examples.test_fraction`."
    )

"""Counts of rows read and not used, as lines for people, from a report."""

from collections.abc import Mapping
from typing import Any

from tfx_pipeline.tables.schema import ORDINARY_REASONS, TABLES

_INTERACTIONS, _ITEMS, _USERS = TABLES


def row_lines(report: Mapping[str, Any]) -> list[str]:
    """Returns a line on the interactions, and further lines where there is more to report.

    Args:
      report: Flat report with the keys of docs/report.md.

    Returns:
      The lines. Each table has its own rejected rows; rows rejected only for items without tags
      have a separate line.
    """
    lines = [
        f"rows       {_count(report, 'rows.read.interactions')} interactions read, "
        f"{_rejected(report, _INTERACTIONS) or 'none rejected'}, "
        f"{_count(report, 'rows.duplicates')} exact duplicates dropped"
    ]
    for table in (_ITEMS, _USERS):
        rejected = _rejected(report, table)
        if rejected:
            lines.append(f"{table:<11}{_count(report, f'rows.read.{table}')} read, {rejected}")
    untagged_items, untagged_rows = (f"rows.rejected.{reason}" for reason in ORDINARY_REASONS)
    if untagged_items in report:
        lines.append(
            f"untagged   {_count(report, untagged_items)} items have no tags: they and "
            f"{_count(report, untagged_rows)} interactions with them are set aside"
        )
    return [*lines, *_id_lines(report), *_time_lines(report)]


def _id_lines(report: Mapping[str, Any]) -> list[str]:
    lines = []
    if "users.without_profile" in report:
        num_users = report["users.total"] - report.get("users.without_events", 0)
        line = (
            f"profiles   {_count(report, 'users.without_profile')} of {num_users:,} users with "
            "events have no row in users"
        )
        if "users.without_events" in report:
            line += f", {_count(report, 'users.without_events')} with a row have no event"
        if "id_forms.users.num" in report:
            line += (
                f"; {_count(report, 'id_forms.users.num')} of the former have one under an id of "
                f"another form, {_pair(report, _USERS)}"
            )
        lines.append(line)
    prefix = "users.missing."
    missing = [key.removeprefix(prefix) for key in sorted(report) if key.startswith(prefix)]
    if missing:
        counts = ", ".join(f"{_count(report, prefix + name)} no {name}" for name in missing)
        lines.append(f"missing    of {_count(report, 'users.total')} users, {counts}")
    if "id_forms.items.num" in report:
        lines.append(
            f"item ids   {_count(report, 'id_forms.items.num')} interactions of unknown_item name "
            f"an item in another form, {_pair(report, _ITEMS)}"
        )
    return lines


def _time_lines(report: Mapping[str, Any]) -> list[str]:
    if "users.at_one_time" not in report:
        return []
    return [
        f"one time   {_count(report, 'users.at_one_time')} users have several events, all in one "
        "second: none is history of another, and no cut in time separates them"
    ]


def _pair(report: Mapping[str, Any], table: str) -> str:
    in_log, in_table = (report[f"id_forms.{table}.{key}"] for key in ("in_log", "in_table"))
    return f"as {in_log!r} in interactions and {in_table!r} in {table}"


def _rejected(report: Mapping[str, Any], table: str) -> str:
    """Returns the reasons of one table's rejected rows; "" where there are none."""
    prefix = f"rows.rejected_of.{table}."
    reasons = {
        key.removeprefix(prefix): number
        for key, number in report.items()
        if key.startswith(prefix) and key.removeprefix(prefix) not in ORDINARY_REASONS
    }
    if not reasons:
        return ""
    return "rejected: " + ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items()))


def _count(report: Mapping[str, Any], key: str) -> str:
    return f"{report.get(key, 0):,}"

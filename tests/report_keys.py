"""Holds the keys of reports to their registry, `tfx_pipeline/reference/report_keys.yaml`."""

import re
from collections.abc import Iterable

from tfx_pipeline.reference.report_keys import (
    Group,
    Name,
    Registry,
    ReportKey,
    Section,
    read_registry,
)

# Beginning of the paths of the modules that measure benchmarks; all others write reports of runs.
BENCHMARKS = "benchmarks/"
_NAME = re.compile(r"<(\w+)>")
_TOKEN = re.compile(r"(<\w+>|\[|\])")


def undocumented_keys(report: Iterable[str], registry: Registry | None = None) -> list[str]:
    """The keys of a report that no key of the registry stands for, sorted.

    Args:
      report: A flat report, or its keys.
      registry: The registry; None: that of all reports.

    Returns:
      The keys; empty if all are documented.
    """
    registry = registry or read_registry()
    patterns = [
        compile_pattern(key.key, registry) for group in registry.groups() for key in group.all_keys
    ]
    return sorted(key for key in report if not any(p.fullmatch(key) for p in patterns))


def unwritten_keys(
    report: Iterable[str], *writers: str, registry: Registry | None = None
) -> list[str]:
    """The registered keys that a complete report must have, and this one has not.

    Args:
      report: A flat report, or its keys.
      writers: Paths of the modules whose keys are looked for; none: all that write reports of runs
        and whose keys are never absent as a whole.
      registry: The registry; None: that of all reports.

    Returns:
      The keys as they are registered; those that may be absent are not among them.
    """
    registry, report = registry or read_registry(), list(report)
    return [
        key.key
        for group in registry.groups()
        if (group.writer in writers if writers else _is_in_every_run(group))
        for key in group.all_keys
        if not key.absent and not any(map(compile_pattern(key.key, registry).fullmatch, report))
    ]


def _is_in_every_run(group: Group) -> bool:
    return not group.absent and not group.writer.startswith(BENCHMARKS)


def compile_pattern(pattern: str, registry: Registry) -> re.Pattern[str]:
    """A registered key as a regular expression of the keys that it stands for."""
    by_name = {name.name: name.explained for name in registry.names}
    parts = []
    for token in _TOKEN.split(pattern):
        if token in ("[", "]"):
            parts.append("(?:" if token == "[" else ")?")
        elif name := _NAME.fullmatch(token):
            parts.append(f"(?:{'|'.join(map(re.escape, by_name[name[1]])) or '[^.]+'})")
        else:
            parts.append(re.escape(token))
    return re.compile("".join(parts))


def made_up_registry() -> Registry:
    """A registry of a few keys."""
    keys = (
        ReportKey("a.size", "mm", "The size."),
        ReportKey("a.<side>[.old]", "mm", "The width."),
        ReportKey("a.note", "text", "A note.", absent="without remarks"),
    )
    return Registry(
        (Section("A", (Group("x.py", keys=keys), Group("y.py", "", "on Sundays", keys[:1]))),),
        (Name("side", values={"left": "", "right": ""}),),
    )

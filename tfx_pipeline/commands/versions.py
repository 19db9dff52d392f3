"""`tagtower versions`: what is pushed, when it was made and from what, and which one serves."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfx_pipeline.commands.base_paths import add_base_path_arguments, base_paths

if TYPE_CHECKING:
    from tfx_pipeline.pushed_versions import PushedVersion

_HEADER = ("version", "made", "kind", "from", "tags", "index", "recall", "state")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    add_base_path_arguments(parser)
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="ask a running server's gRPC interface which versions it has "
        "(default: the newest on disk serves)",
    )
    parser.add_argument(
        "--model_name", default="default", help="model at the server (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Prints one line a version, newest first."""
    from tfx_pipeline.pushed_versions import read_versions
    from tfx_pipeline.report_tables import format_table

    base_path = base_paths(arguments)[0]
    versions = read_versions(base_path)[::-1]
    if not versions:
        raise ValueError(
            f"`model_base_path` must hold a version. Received: {base_path} without any."
        )
    serving = [version.number for version in versions if not version.is_withdrawn][:1]
    states: dict[int, str] = {}
    if arguments.server:
        states = _server_states(arguments.server, arguments.model_name)
        serving = [number for number in sorted(states) if states[number] == "AVAILABLE"][-1:]
    rows = [
        {**describe(version), "state": _state(version, serving, states)} for version in versions
    ]
    # What a server still has and nobody finds on disk.
    on_disk = {version.number for version in versions}
    rows += [
        {"version": number, "state": "serves, not on disk"}
        for number in serving
        if number not in on_disk
    ]
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
    else:
        print(format_table(_HEADER, [[_cell(row.get(name)) for name in _HEADER] for row in rows]))
        for version in versions:
            if version.damage is not None:
                print(version.damage)
    return 0


def describe(version: "PushedVersion") -> dict[str, Any]:
    """What the table says of a version; None where it was pushed before that was noted."""
    facts = version.provenance
    described = {name: facts.get(name) for name in ("made", "kind", "index", "recall")}
    source = None
    if facts:
        towers = str(facts.get("towers_fingerprint", ""))[:8]
        source = f"{facts.get('run')} towers {towers}"
        if "tag_file" in facts:
            source += (
                f" +{facts['num_new']} -{facts['num_retired']} ~{facts['num_reweighted']} "
                f"file {facts['tag_file'][:8]}"
            )
    return {
        "version": version.number,
        **described,
        "from": source,
        "tags": facts.get("num_tags"),
    }


def _cell(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else None if value is None else str(value)


def _state(version: "PushedVersion", serving: Sequence[int], states: dict[int, str]) -> str:
    words = ["serves"] if version.number in serving else []
    if not words and version.number in states:
        words.append(states[version.number].lower())
    if version.is_withdrawn:
        words.append("withdrawn")
    if version.damage is not None:
        words.append("damaged")
    return ", ".join(words)


def _server_states(server: str, model_name: str) -> dict[int, str]:
    from tfx_pipeline.console import silence_imports

    silence_imports()
    from serving.client import TagClient, TagClientError

    try:
        with TagClient(server, model_name=model_name) as client:
            return {status.version: status.state for status in client.model_status()}
    except TagClientError as error:
        raise ValueError(str(error)) from error

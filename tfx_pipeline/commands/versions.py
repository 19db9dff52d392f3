"""`tagtower versions`: what is pushed, when it was made and from what, and which one serves.

With `--verify` each version is checked against its manifest, for users of TensorFlow Serving, which
does not check it.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tfx_pipeline.commands.base_paths import add_base_path_arguments, base_paths
from tfx_pipeline.commands.channel_flags import add_channel_arguments, channel_security

if TYPE_CHECKING:
    from tfx_pipeline.versions.pushed_versions import PushedVersion

_HEADER = ("version", "made", "kind", "from", "tags", "index", "recall", "state")
_REMEDY = "`tagtower rollback` serves another; `tagtower run` pushes a removed version again."
_WITHDRAWN = "It is withdrawn, and cannot be rolled back to."
_FILES = "files"  # column of `--verify`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_base_path_arguments(parser)
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="ask a running server's gRPC interface which versions it has "
        "(default: the newest on disk serves)",
    )
    parser.add_argument(
        "--model_name",
        default="default",
        help="name of the model at the server (default: %(default)s)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare the files of each version, withdrawn or not and with an exact index or not, "
        "with its manifest; the exit status is 1 if one is damaged",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_channel_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints one line per version, newest first."""
    from tfx_pipeline.terminal.tables import format_table
    from tfx_pipeline.versions.pushed_versions import read_versions

    paths = base_paths(arguments)
    base_path = paths[0]
    versions = read_versions(base_path)[::-1]
    if not versions:
        raise ValueError(
            f"`model_base_path` must hold a version. Received: {base_path} without any."
        )
    serving = [version.number for version in versions if not version.is_withdrawn][:1]
    states: dict[int, str] = {}
    if arguments.server:
        states = _server_states(arguments)
        serving = [number for number in sorted(states) if states[number] == "AVAILABLE"][-1:]
    rows = [
        {**describe(version), "state": _state(version, serving, states)} for version in versions
    ]
    # Versions that a server still has, but that are not on disk.
    on_disk = {version.number for version in versions}
    rows += [
        {"version": number, "state": "serves, not on disk"}
        for number in serving
        if number not in on_disk
    ]
    header, is_damaged = list(_HEADER), False
    if arguments.verify:
        header.append(_FILES)
        files = verify([v for path in paths for v in read_versions(path)])
        is_damaged = any(state.startswith("damaged") for state in files.values())
        rows = [{**row, _FILES: _files_cell(row["version"], paths, files)} for row in rows]
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
    else:
        print(format_table(header, [[_cell(row.get(name)) for name in header] for row in rows]))
        for version in versions:
            if version.damage is not None:
                print(version.damage)
    return int(is_damaged)


def verify(versions: Iterable["PushedVersion"]) -> dict[str, str]:
    """Checks versions against their manifests, with a line for each on standard error.

    Args:
      versions: Versions to check.

    Returns:
      The state by folder: `sound`, `no manifest, not checked` or `damaged: FILE`.
    """
    from trainer.contract.file_system import is_folder
    from trainer.contract.manifest import DamagedFolderError, check_manifest

    states = {}
    for version in versions:
        sys.stderr.write(f"checking {version.path} ...\n")
        try:
            remedy = _WITHDRAWN if version.is_withdrawn else _REMEDY
            is_checked = check_manifest(version.path, remedy=remedy)
            states[version.path] = "sound" if is_checked else "no manifest, not checked"
        except (DamagedFolderError, OSError) as error:
            if not is_folder(version.path):  # rolled back, or brought back, while it was read
                states[version.path] = "moved meanwhile, not checked"
            elif isinstance(error, DamagedFolderError):
                print(f"tagtower: {error}", file=sys.stderr)
                states[version.path] = f"damaged: {error.file}"
            else:
                print(f"tagtower: {version.path} cannot be read: {error}", file=sys.stderr)
                states[version.path] = f"damaged: {error.filename or error}"
    return states


def _files_cell(number: int, paths: Sequence[str], states: dict[str, str]) -> str | None:
    """Returns the state at each base path; a single one if all are the same."""
    found = {
        path: state
        for path in paths
        for folder, state in states.items()
        if folder.startswith(f"{path}{os.sep}") and int(os.path.basename(folder)) == number
    }
    if len(set(found.values())) <= 1:
        return next(iter(found.values()), None)
    return "; ".join(f"{os.path.basename(path)}: {state}" for path, state in found.items())


def describe(version: "PushedVersion") -> dict[str, Any]:
    """Returns a version's facts for the table; None for those not recorded when it was pushed."""
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


def _server_states(arguments: argparse.Namespace) -> dict[int, str]:
    from tfx_pipeline.terminal.console import silence_imports

    silence_imports()
    from serving.client import TagClient, TagClientError

    try:
        security = channel_security(arguments)
        with TagClient(
            arguments.server, model_name=arguments.model_name, security=security
        ) as client:
            return {status.version: status.state for status in client.model_status()}
    except TagClientError as error:
        raise ValueError(str(error)) from error

"""`tagtower demo`: the main job on a synthetic log, from generation to served tags."""

import argparse
import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from tfx_pipeline.commands.prepare import add_demo_arguments, demo_config
from tfx_pipeline.commands.run import exit_status, run_and_report
from tfx_pipeline.console import Console, quiet_libraries
from trainer.given_paths import path_flag, require_no_pattern

_NUM_SHOWN = 6
_SERVER_TIMEOUT_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "--output",
        type=path_flag("output"),
        default=os.path.join("build", "demo"),
        help="folder (default: %(default)s)",
    )
    options = parser.add_argument_group("the synthetic log")
    for action in _demo_actions():
        options._add_action(action)


def run(arguments: argparse.Namespace) -> int:
    """Prepares, runs, serves, asks, and shows the planted beside the served."""
    from tfx_pipeline.config import load_config

    require_no_pattern(arguments.output, "output")
    tables = os.path.join(arguments.output, "tables")
    config = load_config("demo", output=os.path.join(arguments.output, "run"))
    data = dataclasses.replace(
        config.data,
        interactions=os.path.join(tables, "interactions"),
        items=os.path.join(tables, "items.parquet"),
        users=os.path.join(tables, "users.parquet"),
        planted=os.path.join(tables, "planted.jsonl"),
    )
    config = dataclasses.replace(config, data=data)
    with quiet_libraries(os.path.join(config.output_dir, "logs", "demo.log")) as console:
        started = time.perf_counter()
        console.line("generating the demo log ...")
        from tfx_pipeline.datasets.demo import prepare_demo

        summary = prepare_demo(tables, demo_config(arguments))
        for line in summary.lines():
            console.line(f"    {line}")
        result = run_and_report(config, console)
        if result.is_pushed:
            with _server(
                config.base_path, os.path.join(config.output_dir, "logs", "server.log")
            ) as (target, process):
                _show_users(config, result.instances_dir, target, process, console)
        console.line(f"the whole demo took {time.perf_counter() - started:.0f} s")
        console.line("next: README.md, or docs/your-own-log.md for your own data")
    return exit_status(result)


def _demo_actions() -> list[argparse.Action]:
    options = argparse.ArgumentParser(add_help=False)
    add_demo_arguments(options)
    return options._actions


@contextlib.contextmanager
def _server(base_path: str, log_path: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Starts `tagtower serve` on a free port; yields `host:port` and the process."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tfx_pipeline.cli", "serve", f"--model_base_path={base_path}"]
    command += [f"--port={port}", "--rest_api_port=0"]
    with open(log_path, "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"localhost:{port}", process
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()


def _show_users(
    config, instances_dir: str, target: str, process: subprocess.Popen, console: Console
) -> None:
    from serving.client import TagClient
    from tfx_pipeline.datasets.planted import read_planted
    from tfx_pipeline.planted_score import read_instances
    from tfx_pipeline.snapshot_moments import user_part

    users = [
        row
        for row in read_planted(config.data.planted)
        if user_part(row["user_id"], config.examples) == "test"
    ]
    # Some with a history, and one of whom only the profile is known.
    shown = [row for row in users if not row["is_cold"]][: _NUM_SHOWN - 1]
    shown += [row for row in users if row["is_cold"] and not row["num_events"]][:1]
    features = read_instances(instances_dir, {row["user_id"] for row in shown})
    with TagClient(target, timeout_s=_SERVER_TIMEOUT_S, max_attempts=1000) as client:
        console.line(f"\nasking the model server at {target} over gRPC for {len(shown)} test users")
        _wait_until_serving(client, process)
        started = time.perf_counter()
        answer = client.retrieve([features[row["user_id"]] for row in shown])
        milliseconds = 1000 * (time.perf_counter() - started)
    for row, profile in zip(shown, answer.profiles, strict=True):
        planted = [*row["interests"], *row["cross_interests"]]
        served = profile.tags[: len(planted)]
        is_new = "" if row["num_events"] else ", no history"
        num_found = len(set(served) & set(planted))
        console.line(
            f"\nuser {row['user_id']}{is_new}: "
            f"{num_found} of {len(planted)} planted interests come first"
        )
        console.line(f"    planted  {', '.join(sorted(planted))}")
        console.line(f"    served   {', '.join(t + ' *' if t in planted else t for t in served)}")
    console.line(
        f"\n(* planted; model version {answer.model_version}, all in {milliseconds:.1f} ms)"
    )


def _wait_until_serving(client, process: subprocess.Popen) -> None:
    from serving.client import TagClientError

    deadline = time.monotonic() + _SERVER_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(TagClientError):
            if any(version.state == "AVAILABLE" for version in client.model_status(timeout_s=5)):
                return
        time.sleep(0.2)
    raise RuntimeError(
        "The model server did not come up: see logs/server.log in the output folder."
    )

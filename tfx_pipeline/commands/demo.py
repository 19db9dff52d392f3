"""`tagtower demo`: the main job on a synthetic log, from generation to served tags."""

import argparse
import dataclasses
import os
import time
from typing import TYPE_CHECKING

from tfx_pipeline.commands.prepare import add_demo_arguments, demo_config
from tfx_pipeline.commands.run import exit_status, run_and_report
from tfx_pipeline.terminal.console import Console, quiet_libraries
from trainer.contract.given_paths import path_flag, require_no_pattern

if TYPE_CHECKING:
    from tfx_pipeline.config.pipeline import PipelineConfig
    from tfx_pipeline.runs.local_server import LocalServer

_NUM_SHOWN = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
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
    """Prepares, runs, serves, asks, and shows planted beside served tags."""
    from tfx_pipeline.config.pipeline import load_config

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
            from tfx_pipeline.runs.local_server import local_server

            log_path = os.path.join(config.output_dir, "logs", "server.log")
            console.line(f"\nstarting the model server, log in {log_path}")
            with local_server(config.base_path, log_path, has_rest=False) as server:
                _show_users(config, result.instances_dir, server, console)
        console.line(f"the whole demo took {time.perf_counter() - started:.0f} s")
        console.line("next: README.md, or docs/your-own-log.md for your own data")
    return exit_status(result)


def _demo_actions() -> list[argparse.Action]:
    options = argparse.ArgumentParser(add_help=False)
    add_demo_arguments(options)
    # The demo scores the planted interests, so only clicks may reveal them.
    options.set_defaults(exposure="blind")
    return options._actions


def _show_users(
    config: "PipelineConfig", instances_dir: str, server: "LocalServer", console: Console
) -> None:
    from serving.client import TagClient
    from tfx_pipeline.datasets.planted import read_planted
    from tfx_pipeline.evaluation.planted_score import read_instances
    from tfx_pipeline.examples.moments import user_part

    assert config.data.planted is not None  # `run` has set it
    users = [
        row
        for row in read_planted(config.data.planted, config.data.tag_normalization)
        if user_part(row["user_id"], config.examples) == "test"
    ]
    # Some users with a history, and one with only profile features.
    shown = [row for row in users if not row["is_cold"]][: _NUM_SHOWN - 1]
    shown += [row for row in users if row["is_cold"] and not row["num_events"]][:1]
    features = read_instances(instances_dir, {row["user_id"] for row in shown})
    asked = [features[row["user_id"]] for row in shown]
    with TagClient(server.target) as client:
        console.line(f"asking it at {server.target} over gRPC for {len(shown)} test users")
        started = time.perf_counter()
        answer = server.ask(lambda timeout_s: client.retrieve(asked, timeout_s=timeout_s))
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

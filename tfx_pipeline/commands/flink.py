"""`tagtower flink`: a Flink cluster on this machine, to try and test on."""

import argparse
from pathlib import Path

import yaml

from tfx_pipeline.flink.launch import DEFAULTS, EMBEDDED, load_cluster
from trainer.contract.given_paths import path_flag

_ACTIONS = ("up", "status", "down")
_EXIT_NOT_UP = 1
_NUMBERS = ("slots", "job_port", "rest_port", "pool_port")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument(
        "action",
        choices=_ACTIONS,
        help="up: start what does not run and wait until it answers; status: how each process is; "
        "down: stop all of it",
    )
    parser.add_argument(
        "--folder",
        type=path_flag("folder"),
        default="build/flink",
        help="folder for settings, logs and temporary files, one for each cluster (default: "
        "%(default)s)",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--embedded",
        action="store_true",
        help="run the cluster inside the job server, and the Python workers in the submitting "
        "process",
    )
    kind.add_argument(
        "--flink_master",
        metavar="HOST:PORT",
        help="REST interface of an existing cluster: up starts only a job server for it; --slots "
        "and --pool_port are then that cluster's",
    )
    for name, what in (
        ("slots", "number of slots of the task manager"),
        ("job_port", "port of Beam's job server; 0: a free one"),
        ("rest_port", "port of the job manager's REST interface and pages; 0: a free one"),
        ("pool_port", "port of the worker pool; 0: a free one"),
    ):
        parser.add_argument(
            f"--{name}",
            type=int,
            help=f"{what} (default: a running cluster's, or {DEFAULTS[name]})",
        )
    parser.add_argument(
        "--timeout_s",
        type=float,
        default=120.0,
        help="longest time that a process which does not answer yet may do nothing "
        "(default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Performs the action on the cluster."""
    folder = Path(arguments.folder).resolve()
    if arguments.action == "up":
        return _up(folder, arguments)
    if arguments.action == "status":
        return _status(folder)
    return _down(folder)


def _up(folder: Path, arguments: argparse.Namespace) -> int:
    from tfx_pipeline.flink.local_cluster import bring_up
    from trainer.contract.config_loader import require

    options = {
        name: getattr(arguments, name)
        for name in (*_NUMBERS, "flink_master")
        if getattr(arguments, name) is not None
    }
    require(options.get("slots", 1) >= 1, "slots", "be a positive integer", options.get("slots"))
    master = options.get("flink_master")
    if master is not None:
        require(":" in master, "flink_master", "be host:port", master)
        is_known = options.get("pool_port") != 0
        require(is_known, "pool_port", "be given: the port of that cluster's worker pools", 0)
    if arguments.embedded:
        options["flink_master"] = EMBEDDED
    cluster = bring_up(folder, options, arguments.timeout_s, lambda line: print(line, flush=True))
    pages = f", pages at http://{cluster.rest_address}" if cluster.rest_address else ""
    print(f"up{pages}, logs in {folder}/logs; a configuration that runs here has:")
    print(yaml.safe_dump({"beam": cluster.beam_section()}, sort_keys=False), end="")
    return 0


def _status(folder: Path) -> int:
    from tfx_pipeline.flink.local_cluster import process_states, running_jobs

    cluster = load_cluster(folder)
    states = process_states(cluster) if cluster is not None else []
    if cluster is None or all(state.pid is None for state in states):
        print(f"down: nothing runs from {folder}")
        return _EXIT_NOT_UP
    for state in states:
        word = "down" if state.pid is None else "ready" if state.is_ready else "does not answer"
        pid = "" if state.pid is None else f"process {state.pid}"
        print(f"{state.name:<14}{word:<17}{pid}".rstrip())
    if cluster.rest_address is not None:
        jobs = running_jobs(cluster)
        print(f"{len(jobs)} running job{'' if len(jobs) == 1 else 's'}")
    return 0 if all(state.is_ready for state in states) else _EXIT_NOT_UP


def _down(folder: Path) -> int:
    from tfx_pipeline.flink.local_cluster import take_down

    stopped = take_down(folder)
    print(f"down: {stopped} process{'' if stopped == 1 else 'es'} stopped")
    return 0

"""Measures the start of a server and of a query by stage, in a process of its own.

`python -m benchmarks.startup_stages serve VERSION_DIR` and `... query` print a JSON object of
stages; each has its wall-clock seconds and, as these say little on a busy machine, its seconds of
processor time.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence

SERVE_STAGES = ("interpreter", "command_line", "tensorflow", "server", "load", "warm_up")
QUERY_STAGES = ("interpreter", "command_line", "client", "answer_table")


def serve(version_dir: str) -> Iterator[str]:
    """Does what `tagtower serve` does until a version serves; yields the name of each stage."""
    yield "interpreter"
    from tfx_pipeline.terminal.command_line import build_parser

    build_parser("serve")
    yield "command_line"
    from serving.inference_environment import prefer_small_batches

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    prefer_small_batches()
    importlib.import_module("tensorflow")
    yield "tensorflow"
    importlib.import_module("serving.model_server.server")
    from serving.model_server.models.warmup import replay_warmup
    from serving.model_server.session.servable import Servable

    yield "server"
    servable = Servable(version_dir)
    yield "load"
    replay_warmup(servable, 1)
    yield "warm_up"


def query() -> Iterator[str]:
    """Does what `tagtower query --features` does before its call; yields the name of each stage."""
    yield "interpreter"
    from tfx_pipeline.terminal.command_line import build_parser

    build_parser("query")
    yield "command_line"
    importlib.import_module("serving.client")
    yield "client"
    importlib.import_module("tfx_pipeline.terminal.tables")

    yield "answer_table"


def main(arguments: Sequence[str]) -> None:
    """Prints the stages of `serve VERSION_DIR` or `query`."""
    stages = serve(arguments[1]) if arguments[0] == "serve" else query()
    last, last_cpu, found = _start_of_process(), 0.0, {}
    for name in stages:
        now, cpu = time.time(), time.process_time()
        found[name] = {"seconds": now - last, "cpu_seconds": cpu - last_cpu}
        last, last_cpu = now, cpu
    print(json.dumps(found))


def _start_of_process() -> float:
    with open("/proc/self/stat", encoding="utf-8") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime", encoding="utf-8") as file:
        uptime = float(file.read().split()[0])
    return time.time() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))


if __name__ == "__main__":
    main(sys.argv[1:])

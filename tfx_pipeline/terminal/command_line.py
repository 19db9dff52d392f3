"""The commands of `tagtower`: parses, calls, and turns a user's mistake into one line.

Nothing heavy is imported here: each command imports what it needs when it runs, so that `serve`,
`query` and `batch-predict` never load TFX.
"""

import argparse
import importlib
import importlib.metadata
import sys
from typing import NoReturn

import trainer as _trainer  # noqa: F401  (selects Keras 2 before anything imports TensorFlow)
from tfx_pipeline.terminal import interrupts
from tfx_pipeline.terminal.full_disk import full_disk
from tfx_pipeline.terminal.refusals import EXIT_IN_USE, EXIT_NOT_PUSHED, NotPushed, OutputInUse
from trainer.contract.file_system import is_remote

EXIT_MISTAKE = 2

# By command: the module with `add_arguments(parser)` and `run(arguments) -> exit status`, and the
# help text.
COMMANDS = {
    "demo": ("demo", "the main job on a synthetic log: prepare, run, serve, ask, report"),
    "prepare": ("prepare", "write the three tables of a data set"),
    "run": ("run", "run the pipeline: from tables to a pushed version"),
    "compile": ("compile", "write the pipeline for Kubeflow Pipelines and Vertex AI"),
    "runs": ("runs", "list the runs: when, on what data, pushed or why not"),
    "study": ("study", "compare towers, objectives and seeds on one set of examples"),
    "serve": ("serve", "serve pushed versions over gRPC and REST"),
    "query": ("query", "ask a server for a user's tags"),
    "reindex": (
        "reindex",
        "make a new version with new, retired and re-weighted tags, without training",
    ),
    "versions": (
        "versions",
        "list the pushed versions: when and from what each was made, and which serves",
    ),
    "rollback": ("rollback", "serve the previous version again, or another one"),
    "check-requests": (
        "check_requests",
        "compare logged requests with what the version that serves was trained on",
    ),
    "flink": ("flink", "run a Flink cluster on this machine: up, status, down"),
    "batch-predict": ("batch_predict", "predict the tags of many users, from files to files"),
}


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_MISTAKE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Builds the parser of all commands.

    Args:
      command: Name of the command whose flags will be parsed: the flags of the others, which take
        longer than all the rest, are then left out. None, or any other text: all commands have
        flags.
    """
    parser = _Parser(
        prog="tagtower", description="User-interest tags: from behaviour logs to served tags."
    )
    version = importlib.metadata.version("tagtower")
    parser.add_argument("--version", action="version", version=f"tagtower {version}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        # The server's flags are another program's: an unknown one must not count as an
        # abbreviation.
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=name != "serve")
        if command not in COMMANDS or command == name:
            importlib.import_module(f"tfx_pipeline.commands.{module}").add_arguments(added)
        added.set_defaults(module=module)
    return parser


def run_command(parsed: argparse.Namespace) -> int:
    """Runs one command; a user's mistake is one line.

    Args:
      parsed: Command line as parsed by `build_parser`.

    Returns:
      The exit status: 0, 2 for a user's mistake, 3 where a gate held the push, 4 where another run
      is using the output folder or the base path.
    """
    command = importlib.import_module(f"tfx_pipeline.commands.{parsed.module}")
    try:
        return command.run(parsed)
    except Exception as error:
        if interrupts.requested():
            raise
        output = getattr(parsed, "output", None)
        is_full = full_disk(error, [output] if output and not is_remote(output) else [])
        if is_full is not None and not isinstance(error, NotPushed | OutputInUse):
            print(f"tagtower {parsed.command}: {is_full}", file=sys.stderr)
        elif isinstance(error, ValueError):
            print(f"tagtower {parsed.command}: {error}", file=sys.stderr)
        elif isinstance(error, OSError) and error.filename is not None:
            print(
                f"tagtower {parsed.command}: {error.filename}: {error.strerror}.", file=sys.stderr
            )
        else:
            raise
        statuses: dict[type, int] = {NotPushed: EXIT_NOT_PUSHED, OutputInUse: EXIT_IN_USE}
        return statuses.get(type(error), EXIT_MISTAKE)

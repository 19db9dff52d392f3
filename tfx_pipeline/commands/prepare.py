"""`tagtower prepare`: the three tables of a data set."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import shlex
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from tfx_pipeline.commands.engine_flags import Engine, add_engine_flags, chosen_engine
from tfx_pipeline.config.option_help import option_help
from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.datasets.mind_options import MindOptions
from tfx_pipeline.terminal.console import quiet_libraries, temporary_log
from trainer.contract.config_loader import require
from trainer.contract.file_system import is_remote
from trainer.contract.given_paths import path_flag

if TYPE_CHECKING:
    from tfx_pipeline.datasets.summary import PreparedSummary

Options = TypeVar("Options")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a subcommand for each data set."""
    datasets = parser.add_subparsers(dest="dataset", metavar="DATASET", required=True)
    movielens = datasets.add_parser(
        "movielens-1m", help="MovieLens-1M with the tags of MovieLens-10M"
    )
    movielens.add_argument(
        "--source", type=path_flag("source"), required=True, help="folder that ml-1m.zip unpacks to"
    )
    movielens.add_argument(
        "--tags", type=path_flag("tags"), required=True, help="tags.dat (or .gz) of MovieLens-10M"
    )
    movielens.add_argument(
        "--output", type=path_flag("output"), required=True, help="folder to write"
    )
    add_engine_flags(movielens)

    mind = datasets.add_parser(
        "mind",
        help="MIND, the log of Microsoft News",
        description="MIND's behaviors.tsv and news.tsv as three tables: interactions are the news "
        "shown, tags are category, subcategory and entities. News shown that news.tsv does not "
        "have are counted, written, and set aside by `tagtower run` (data.max_rejected_fraction).",
    )
    mind.add_argument(
        "--source",
        type=path_flag("source"),
        required=True,
        help="folder that MINDsmall_train.zip unpacks to",
    )
    mind.add_argument("--output", type=path_flag("output"), required=True, help="folder to write")
    _add_options(mind, MindOptions)
    add_engine_flags(mind)

    demo = datasets.add_parser("demo", help="a synthetic log with planted interests")
    demo.add_argument("--output", type=path_flag("output"), required=True, help="folder to write")
    add_demo_arguments(demo)
    add_engine_flags(demo)


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each option of the synthetic log."""
    _add_options(parser, DemoConfig)


def demo_config(arguments: argparse.Namespace) -> DemoConfig:
    """Returns the parsed options of the synthetic log."""
    return _options(arguments, DemoConfig)


def _add_options(parser: argparse.ArgumentParser, cls: type) -> None:
    """Adds a flag for each field of a dataclass of scalars and `Literal`s."""
    kinds = typing.get_type_hints(cls)
    texts = option_help(cls)
    for field in dataclasses.fields(cls):
        choices = typing.get_args(kinds[field.name])
        parser.add_argument(
            f"--{field.name}",
            type=str if choices else kinds[field.name],
            choices=choices or None,
            default=field.default,
            # argparse formats the text with %.
            help=texts[field.name].replace("%", "%%") + " (default: %(default)s)",
        )


def _options(arguments: argparse.Namespace, cls: type[Options]) -> Options:
    names = (field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]
    return cls(**{name: getattr(arguments, name) for name in names})


def run(arguments: argparse.Namespace) -> int:
    """Writes the tables; prints the summary."""
    engine = chosen_engine(arguments)
    _check_engine(arguments, engine)
    if engine.runner == "local":
        # Without Beam, whose import takes longer than a small log.
        summary = _prepare(arguments, None, functools.partial(print, flush=True))
    else:
        summary = _prepare_on_engine(arguments, engine.pipeline_args)
    print("\n".join(summary.lines()))
    return 0


def _check_engine(arguments: argparse.Namespace, engine: Engine) -> None:
    if arguments.dataset == "movielens-1m":
        is_local = engine.runner == "local"
        name = engine.runner or shlex.join(engine.pipeline_args)
        reason = "be local for movielens-1m: one process reads its million ratings in seconds"
        require(is_local, "runner", reason, name)
    if any(arg.rpartition("=")[2] == "DataflowRunner" for arg in engine.pipeline_args):
        names = ("output",) if arguments.dataset == "demo" else ("output", "source")
        for name in names:
            path = getattr(arguments, name)
            require(is_remote(path), name, "be a place that Dataflow reaches, gs://...", path)


def _prepare_on_engine(
    arguments: argparse.Namespace, pipeline_args: Sequence[str]
) -> PreparedSummary:
    from tfx_pipeline.engines.beam_failure import (
        BeamJobError,
        one_line_failures,
        require_job_server,
    )

    require_job_server(pipeline_args)
    with (
        temporary_log("prepare.log", kept_on=BeamJobError) as log_path,
        quiet_libraries(log_path) as console,
        one_line_failures(log_path),
    ):
        return _prepare(arguments, pipeline_args, console.line)


def _prepare(
    arguments: argparse.Namespace, pipeline_args: Sequence[str] | None, say: Callable[[str], None]
) -> PreparedSummary:
    """Writes the tables, on a Beam engine if its command line is given."""
    if arguments.dataset == "demo":
        from tfx_pipeline.datasets.demo import prepare_demo

        return prepare_demo(arguments.output, demo_config(arguments), pipeline_args)
    if arguments.dataset == "mind":
        from tfx_pipeline.datasets.mind import prepare_mind

        say("reading news and impressions ...")
        options = _options(arguments, MindOptions)
        return prepare_mind(arguments.source, arguments.output, options, pipeline_args)
    from tfx_pipeline.datasets.movielens_1m import prepare_movielens_1m

    say("reading ratings and tags ...")
    return prepare_movielens_1m(arguments.source, arguments.tags, arguments.output)

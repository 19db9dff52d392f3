"""`tagtower prepare`: the three tables of a data set."""

import argparse
import dataclasses
import typing
from typing import TypeVar

from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.datasets.mind_options import MindOptions
from tfx_pipeline.option_help import option_help

Options = TypeVar("Options")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a subcommand for each data set."""
    datasets = parser.add_subparsers(dest="dataset", metavar="DATASET", required=True)
    movielens = datasets.add_parser(
        "movielens-1m", help="MovieLens-1M with the tags of MovieLens-10M"
    )
    movielens.add_argument("--source", required=True, help="folder that ml-1m.zip unpacks to")
    movielens.add_argument("--tags", required=True, help="tags.dat (or .gz) of MovieLens-10M")
    movielens.add_argument("--output", required=True, help="folder to write")

    mind = datasets.add_parser(
        "mind",
        help="MIND, the log of Microsoft News",
        description="behaviors.tsv and news.tsv of MIND as three tables: interactions are the news "
        "shown, tags are category, subcategory and entities. News shown that news.tsv does not "
        "have are counted, written, and set aside by `tagtower run` (data.max_rejected_fraction).",
    )
    mind.add_argument("--source", required=True, help="folder that MINDsmall_train.zip unpacks to")
    mind.add_argument("--output", required=True, help="folder to write")
    _add_options(mind, MindOptions)

    demo = datasets.add_parser("demo", help="a synthetic log with planted interests")
    demo.add_argument("--output", required=True, help="folder to write")
    add_demo_arguments(demo)


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each option of the synthetic log."""
    _add_options(parser, DemoConfig)


def demo_config(arguments: argparse.Namespace) -> DemoConfig:
    """The options of the synthetic log that were parsed."""
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
    """Writes the tables; prints what was written."""
    if arguments.dataset == "demo":
        from tfx_pipeline.datasets.demo import prepare_demo

        summary = prepare_demo(arguments.output, demo_config(arguments))
    elif arguments.dataset == "mind":
        from tfx_pipeline.datasets.mind import prepare_mind

        print("reading news and impressions ...", flush=True)
        options = _options(arguments, MindOptions)
        summary = prepare_mind(arguments.source, arguments.output, options)
    else:
        from tfx_pipeline.datasets.movielens_1m import prepare_movielens_1m

        print("reading ratings and tags ...", flush=True)
        summary = prepare_movielens_1m(arguments.source, arguments.tags, arguments.output)
    print("\n".join(summary.lines()))
    return 0

"""`tagtower prepare`: the three tables of a data set."""

import argparse
import dataclasses
import typing

from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.option_help import option_help


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a subcommand for each data set."""
    datasets = parser.add_subparsers(dest="dataset", metavar="DATASET", required=True)
    movielens = datasets.add_parser(
        "movielens-1m", help="MovieLens-1M with the tags of MovieLens-10M"
    )
    movielens.add_argument("--source", required=True, help="folder that ml-1m.zip unpacks to")
    movielens.add_argument("--tags", required=True, help="tags.dat (or .gz) of MovieLens-10M")
    movielens.add_argument("--output", required=True, help="folder to write")

    demo = datasets.add_parser("demo", help="a synthetic log with planted interests")
    demo.add_argument("--output", required=True, help="folder to write")
    add_demo_arguments(demo)


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each option of the synthetic log."""
    kinds = typing.get_type_hints(DemoConfig)
    texts = option_help(DemoConfig)
    for field in dataclasses.fields(DemoConfig):
        parser.add_argument(
            f"--{field.name}",
            type=kinds[field.name],
            default=field.default,
            # argparse formats the text with %.
            help=texts[field.name].replace("%", "%%") + " (default: %(default)s)",
        )


def demo_config(arguments: argparse.Namespace) -> DemoConfig:
    """The options of the synthetic log that were parsed."""
    return DemoConfig(
        **{field.name: getattr(arguments, field.name) for field in dataclasses.fields(DemoConfig)}
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the tables; prints what was written."""
    if arguments.dataset == "demo":
        from tfx_pipeline.datasets.demo import prepare_demo

        summary = prepare_demo(arguments.output, demo_config(arguments))
    else:
        from tfx_pipeline.datasets.movielens_1m import prepare_movielens_1m

        print("reading ratings and tags ...", flush=True)
        summary = prepare_movielens_1m(arguments.source, arguments.tags, arguments.output)
    print("\n".join(summary.lines()))
    return 0

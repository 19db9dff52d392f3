"""`tagtower check-requests`: are requests distributed as the examples that training saw?"""

import argparse
import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

from serving.batch.files import input_files, log_files
from tfx_pipeline.commands.config_flags import add_config_flag, add_output_flag
from tfx_pipeline.terminal.refusals import EXIT_NOT_PUSHED
from trainer.contract.config_loader import require
from trainer.contract.file_system import is_file
from trainer.contract.given_paths import path_flag

if TYPE_CHECKING:
    from tfx_pipeline.config.pipeline import PipelineConfig
    from tfx_pipeline.evaluation.distributions import Comparison
    from tfx_pipeline.evaluation.request_statistics import RequestStatistics

_SPLIT = "train"
_NUM_SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_config_flag(parser)
    add_output_flag(parser)
    parser.add_argument(
        "--requests",
        type=path_flag("requests"),
        required=True,
        metavar="FILES",
        help="file, folder or glob of logged requests: a request log of `tagtower serve`, or JSON "
        "lines of feature values by name",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Compares distributions; returns 3 if a threshold of `validation.skew` fails, else 0."""
    from tfx_pipeline.config.pipeline import load_config
    from tfx_pipeline.terminal.console import silence_imports

    config = load_config(arguments.config, output=arguments.output)
    if not config.validation.skew:
        raise ValueError(
            "`validation.skew` must have a threshold for the features to compare. Received: none."
        )
    version, statistics = training_statistics(config)
    if not log_files(arguments.requests):
        input_files(arguments.requests, "requests")
    silence_imports()
    import tensorflow_data_validation as tfdv

    from tfx_pipeline.evaluation.distributions import compare_requests
    from tfx_pipeline.evaluation.request_statistics import request_statistics

    requests = request_statistics(
        arguments.requests, config.features, config.data.tag_normalization
    )
    total = requests.num_requests + len(requests.rejected)
    if len(requests.rejected) > config.data.max_rejected_fraction * total:
        raise ValueError(
            f"`data.max_rejected_fraction` must not be exceeded: {len(requests.rejected)} of "
            f"{total} requests cannot be read ({'; '.join(requests.rejected[:_NUM_SHOWN])})."
        )
    comparisons = compare_requests(
        requests.statistics, tfdv.load_stats_binary(statistics), config.validation.skew
    )
    _show(version, requests, comparisons, arguments.json)
    return EXIT_NOT_PUSHED if any(c.is_failed for c in comparisons) else 0


def _show(
    version: int, requests: "RequestStatistics", comparisons: "list[Comparison]", as_json: bool
) -> None:
    rows: list[dict[str, Any]] = [
        {
            "feature": c.feature,
            "measure": c.measure,
            "distance": c.value,
            "accepted": c.threshold,
            "verdict": c.on_violation if c.is_violated else "ok",
        }
        for c in comparisons
    ]
    if as_json:
        facts = {
            "version": version,
            "num_requests": requests.num_requests,
            "num_rejected": len(requests.rejected),
            **dataclasses.asdict(requests.log),
        }
        print(json.dumps(facts | {"features": rows}))
    else:
        from tfx_pipeline.evaluation.distributions import violations
        from tfx_pipeline.terminal.tables import format_table

        print(
            f"{requests.num_requests:,} requests ({len(requests.rejected)} more could not be read) "
            f"beside the training examples of version {version}"
        )
        if any(dataclasses.astuple(requests.log)):
            print(
                f"request log: {requests.log.num_without_features:,} requests without features of "
                f"users; {requests.log.num_cut_off:,} files that end in the middle of a record"
            )
        header = list(rows[0])
        print(format_table(header, [[row[name] for name in header] for row in rows]))
        for line in violations(comparisons, "validation.skew", failed=True):
            print(f"  - {line}")


def training_statistics(config: "PipelineConfig") -> tuple[int, str]:
    """Returns the version that serves, and the file of its training statistics.

    Args:
      config: Configuration, a `PipelineConfig`.

    Returns:
      The number of the version, and the path of the file.

    Raises:
      ValueError: There is no version, or the run that made its examples is not in the run log.
    """
    from tfx_pipeline.artifacts.places import located
    from tfx_pipeline.run_log.log import read_runs
    from tfx_pipeline.versions.pushed_versions import serving_version

    version = serving_version(config.base_path)
    if version is None:
        raise ValueError(
            f"`serving.base_path` must hold a pushed version. Received: {config.base_path} "
            "without any; `tagtower run` pushes one."
        )
    if version.damage is not None:
        raise ValueError(version.damage)
    examples, made_by = (version.provenance.get(name) for name in ("examples", "run"))
    folders = [
        report["run.statistics"]
        for report in read_runs(config.output_dir)
        if examples is not None
        and "run.examples" in report
        and made_by in (None, report["run.name"])
        and located(report["run.examples"], config.output_dir)
        == located(examples, config.output_dir)
    ]
    require(
        bool(folders),
        "output",
        f"hold the run that made the examples of version {version.number} ({examples})",
        config.output_dir,
    )
    folder = located(folders[-1], config.output_dir)
    path = os.path.join(folder, f"Split-{_SPLIT}", "FeatureStats.pb")
    require(is_file(path), "output", "still hold the statistics of that run", path)
    return version.number, path

"""`tagtower batch-predict`: tags for many users, from files to files."""

import argparse
import os

from serving.inference_environment import prefer_small_batches
from tfx_pipeline.commands.engine_flags import add_engine_flags, chosen_engine
from tfx_pipeline.terminal.console import quiet_libraries, temporary_log
from trainer.contract.config_loader import require
from trainer.contract.file_system import absolute, exists, is_folder
from trainer.contract.given_paths import path_flag, require_no_pattern

# Key of the Parquet table, if no other key is named.
_USER_KEY = "user_id"
_MEGABYTE = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument(
        "--model_base_path",
        type=path_flag("model_base_path"),
        required=True,
        help="folder of the numbered versions",
    )
    parser.add_argument("--version", type=int, help="the version (default: the newest)")
    parser.add_argument(
        "--input", type=path_flag("input"), required=True, help="file, folder or glob of instances"
    )
    parser.add_argument(
        "--input_format",
        choices=("auto", "jsonl", "tf-record"),
        default="auto",
        help="JSON lines, plain or compressed, or TFRecords of serialized tf.Examples, plain or "
        "gzipped (default: TFRecords where `tfrecord` is in the file's name)",
    )
    parser.add_argument(
        "--output",
        type=path_flag("output"),
        required=True,
        help="folder to write; must not exist yet",
    )
    parser.add_argument(
        "--output_format",
        choices=("jsonl", "parquet"),
        default="jsonl",
        help="Vertex's JSON lines, or a table of user_id, rank, tag, score, probability, "
        "model_version, predicted_at",
    )
    parser.add_argument(
        "--num_tags",
        type=int,
        help="number of tags of a prediction (default: all that the model gives)",
    )
    parser.add_argument(
        "--key_field",
        help="field that identifies the instance in the output, and is not sent to the model "
        "(default with parquet: user_id)",
    )
    parser.add_argument(
        "--excluded_fields",
        default="user_id",
        help="fields, with commas between, that are not sent to the model (default: user_id)",
    )
    parser.add_argument(
        "--shard_megabytes",
        type=int,
        default=16,
        help="size of the input of one output file; a killed run loses at most this (default: 16)",
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="start again where a killed run could be resumed",
    )
    add_engine_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predicts for all instances; prints the counts."""
    from serving.batch.files import input_files
    from tfx_pipeline.engines.beam_failure import BeamJobError, require_job_server

    pipeline_args = chosen_engine(arguments).pipeline_args
    output = arguments.output.rstrip("/")
    require_no_pattern(arguments.model_base_path, "model_base_path")
    model_dir = _version_folder(arguments)
    input_files(arguments.input)
    for name in ("num_tags", "shard_megabytes"):
        value = getattr(arguments, name)
        require(value is None or value >= 1, name, "be a positive integer", value)
    require(not exists(output), "output", "be a folder that does not exist yet", output)
    require_job_server(pipeline_args)
    with temporary_log("batch-predict.log", kept_on=BeamJobError) as log_path:
        _predict(arguments, pipeline_args, model_dir, output, log_path)
    return 0


def _version_folder(arguments: argparse.Namespace) -> str:
    from serving.model_server.models.version_folder import list_versions

    base_path = absolute(arguments.model_base_path)
    versions = list_versions(base_path) if is_folder(base_path) else {}
    asked = arguments.version
    version = max(versions, default=None) if asked is None else asked
    if version not in versions:
        known = ", ".join(map(str, sorted(versions))) or "none"
        raise ValueError(
            f"`model_base_path` must hold the version. Received: {arguments.model_base_path} "
            f"with the versions {known}, asked for {'the newest' if asked is None else asked}."
        )
    return versions[version]


def _predict(
    arguments: argparse.Namespace,
    pipeline_args: list[str],
    model_dir: str,
    output: str,
    log_path: str,
) -> None:
    with quiet_libraries(log_path) as console:
        console.line("loading Beam and TensorFlow ...")
        # Like the model server, so that online and batch give the same results.
        prefer_small_batches()
        from serving.batch.batch_predict import BatchPredictConfig, batch_predict
        from serving.batch.output import JsonLinesWriter, PredictionWriter
        from tfx_pipeline.engines.beam_failure import one_line_failures

        writer: type[PredictionWriter] = JsonLinesWriter
        key_field = arguments.key_field
        if arguments.output_format == "parquet":
            from tfx_pipeline.commands.prediction_table import ParquetWriter

            writer = ParquetWriter
            key_field = key_field or _USER_KEY
        config = BatchPredictConfig(
            model_dir=model_dir,
            # Absolute, as workers may be in another folder than the caller.
            input_pattern=absolute(arguments.input),
            output_dir=absolute(output),
            num_tags=arguments.num_tags,
            key_field=key_field,
            excluded_fields=tuple(filter(None, arguments.excluded_fields.split(","))),
            input_format=arguments.input_format,
            shard_bytes=arguments.shard_megabytes * _MEGABYTE,
            restart=arguments.restart,
        )
        console.line(f"predicting with version {os.path.basename(model_dir)} ...")
        with one_line_failures(log_path):
            counts = batch_predict(config, pipeline_args, writer)
        console.line(f"{counts['predicted']:,} predicted, {counts['errors']:,} errors, in {output}")

"""`tagtower batch-predict`: tags for many users, JSON lines in and out."""

import argparse
import os
import shutil
import sys
import tempfile

from tfx_pipeline.console import quiet_libraries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("--model_base_path", required=True, help="folder of the numbered versions")
    parser.add_argument("--version", type=int, help="the version (default: the newest)")
    parser.add_argument(
        "--input", required=True, help="file or glob of JSON lines, one instance a line"
    )
    parser.add_argument("--output", required=True, help="folder to write; must not exist yet")
    parser.add_argument(
        "--num_tags", type=int, help="tags of a prediction (default: all the model gives)"
    )
    parser.add_argument(
        "--key_field",
        help="field that stands for the instance in the output, and is not sent to the model",
    )
    parser.add_argument(
        "--excluded_fields",
        default="user_id",
        help="fields, with commas between, that are not sent to the model (default: user_id)",
    )
    parser.add_argument(
        "--runner", choices=("local", "multi_process"), default="local", help="Beam engine"
    )
    parser.add_argument(
        "--num_workers", type=int, default=2, help="workers of multi_process (default: 2)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Predicts; prints the counts."""
    from tfx_pipeline.config import BeamConfig

    beam = BeamConfig(arguments.runner, arguments.num_workers)
    output = arguments.output.rstrip("/")
    logs = tempfile.mkdtemp(prefix="tagtower-")
    try:
        _predict(arguments, beam.pipeline_args(), output, os.path.join(logs, "batch-predict.log"))
    except (ValueError, KeyboardInterrupt):
        shutil.rmtree(logs)
        raise
    except Exception:
        print(f"unexpected error; what the libraries said is in {logs}", file=sys.stderr)
        raise
    shutil.rmtree(logs)
    return 0


def _predict(
    arguments: argparse.Namespace, pipeline_args: list[str], output: str, log_path: str
) -> None:
    with quiet_libraries(log_path) as console:
        console.line("loading Beam and TensorFlow ...")
        from serving.batch_predict import BatchPredictConfig, batch_predict
        from serving.model_server.version_folder import list_versions

        base_path = os.path.abspath(arguments.model_base_path)
        versions = list_versions(base_path) if os.path.isdir(base_path) else {}
        version = arguments.version or max(versions, default=None)
        if version not in versions:
            known = ", ".join(map(str, sorted(versions))) or "none"
            raise ValueError(
                f"`model_base_path` must hold the version. Received: {arguments.model_base_path} "
                f"with the versions {known}, asked for {version or 'the newest'}."
            )
        config = BatchPredictConfig(
            model_dir=versions[version],
            input_pattern=arguments.input,
            output_dir=output,
            num_tags=arguments.num_tags,
            key_field=arguments.key_field,
            excluded_fields=tuple(filter(None, arguments.excluded_fields.split(","))),
        )
        console.line(f"predicting with version {version} ...")
        counts = batch_predict(config, pipeline_args)
        console.line(f"{counts['predicted']:,} predicted, {counts['errors']:,} errors, in {output}")

"""TagIndexEvaluator: compares the saved index with exact search, with users' vectors."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tfx import v1 as tfx
from tfx.types import artifact_utils
from tfx.utils import path_utils

from tfx_pipeline.artifacts.json_files import read_artifact_json
from tfx_pipeline.components.artifacts import IndexEvaluation
from tfx_pipeline.engines.child_processes import tied_to_this_process
from tfx_pipeline.evaluation.gate import check_index
from trainer.contract.manifest import check_manifest
from trainer.contract.whole_files import write_text

INDEX_EVALUATION_FILE = "index_evaluation.json"
BLESSED_PROPERTY = "blessed"
RECALL_PROPERTY = "recall"
DECIDING_SPLIT = "validation"
EVALUATED_SPLITS = (DECIDING_SPLIT, "test")
_BLESSED_FILES = {True: "INFRA_BLESSED", False: "INFRA_NOT_BLESSED"}  # TFX's names


@tfx.dsl.components.component
def TagIndexEvaluator(  # noqa: N802 (a component is a class to its callers)
    servable: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    evaluation: tfx.dsl.components.OutputArtifact[IndexEvaluation],
    blessing: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.InfraBlessing],
    target_recall: tfx.dsl.components.Parameter[float],
    code: tfx.dsl.components.Parameter[str],
) -> None:
    """Measures the servable in a fresh process, and blesses it if its recall reaches the target.

    The blessing depends on validation users; the figures of test users go into the report.

    Args:
      servable: Servable that would be pushed.
      examples: Raw examples of users.
      evaluation: Artifact with `index_evaluation.json`.
      blessing: Infrastructure blessing, as the stock Pusher understands it.
      target_recall: Smallest accepted recall against exact search.
      code: Fingerprint of the code, for the cache.
    """
    del code
    path = os.path.join(evaluation.uri, INDEX_EVALUATION_FILE)
    patterns = {
        split: os.path.join(artifact_utils.get_split_uri([examples], split), "*")
        for split in EVALUATED_SPLITS
    }
    version_dir = path_utils.serving_model_path(servable.uri)
    check_manifest(version_dir)
    figures = evaluate_in_own_process(version_dir, patterns, path)
    recall = figures[DECIDING_SPLIT]["recall"]
    check = check_index(recall, target_recall)
    is_blessed = check.is_passed
    file = os.path.join(blessing.uri, _BLESSED_FILES[is_blessed])
    write_text(file, "" if is_blessed else str(check))
    blessing.set_int_custom_property(BLESSED_PROPERTY, int(is_blessed))
    blessing.set_float_custom_property(RECALL_PROPERTY, recall)


def evaluate_in_own_process(
    servable: str, patterns: Mapping[str, str], output: str
) -> dict[str, dict[str, Any]]:
    """Measures a servable in a process that knows only its files.

    Args:
      servable: Folder of the version.
      patterns: Globs of raw examples of users, by split.
      output: Path of the JSON file to write the figures to.

    Returns:
      `serving.index.evaluation.IndexFigures` as mappings, by split.

    Raises:
      RuntimeError: The servable cannot be loaded or called.
    """
    command = [sys.executable, "-m", "serving.index.evaluation", "--output", output]
    command += ["--servable", servable]
    for split, pattern in patterns.items():
        command += ["--examples", f"{split}={pattern}"]
    finished = subprocess.run(
        tied_to_this_process(command), capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise RuntimeError(
            f"The servable cannot be evaluated from its files:\n{finished.stderr[-4000:]}"
        )
    return read_artifact_json(output)

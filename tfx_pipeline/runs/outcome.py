"""Results of a run beside its report: a pushed version, and links to its outputs."""

import os

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.examples.log_summary import ITEMS_FILE
from tfx_pipeline.pipeline import REJECTED_DIR
from tfx_pipeline.runs.report import NodeOutputs
from tfx_pipeline.versions.pushing import (
    ensure_newest,
    mend_pushed,
    rolled_back_version,
    unpushed,
)
from trainer.contract.file_system import (
    absolute,
    copy_folder,
    is_folder,
    remove_file,
    remove_folder,
)
from trainer.contract.whole_files import replace_link

# Links in the output folder: instances of the split `now`, for batch prediction, and the prediction
# logs of TFX's BulkInferrer where the run has one.
INSTANCES_LINK = "instances"
INFERENCE_LINK = "inference_result"


def ensure_pushed(
    config: PipelineConfig, outputs: NodeOutputs, is_blessed: bool, recall: float
) -> tuple[int | None, str | None]:
    """Ensures that the run's version serves, even if the Pusher's output comes from the cache.

    Args:
      config: Configuration of the run.
      outputs: Outputs of the nodes.
      is_blessed: Whether model and index are blessed.
      recall: Recall of the index on validation users, for `version.json`.

    Returns:
      The version that serves, None: none was pushed; and why a blessed one was not pushed, in
      words.
    """
    pushed_model = outputs.uri("Pusher", "pushed_model")
    servable = outputs.uri("TagIndexBuilder", "servable")
    facts = {"run": config.name, "recall": recall}
    paths = (
        absolute(config.base_path),
        absolute(config.exact_base_path) if config.exact_base_path else "",
    )
    mend_pushed(pushed_model, lambda: unpushed(paths, is_blessed, facts, servable))
    version = ensure_newest(pushed_model, servable)
    withdrawn = rolled_back_version(pushed_model)
    if withdrawn is None or not is_blessed:
        return version, None
    return version, (
        f"version {withdrawn} of these towers was rolled back; `tagtower rollback "
        f"--to {withdrawn}` serves it again"
    )


def link_outputs(config: PipelineConfig, outputs: NodeOutputs, is_model_blessed: bool) -> None:
    """Links outputs that people and later commands read into the output folder."""
    summary = outputs.uri("ExampleGen", "summary")
    replace_link(
        outputs.uri("ExampleGen", "instances"), os.path.join(config.output_dir, INSTANCES_LINK)
    )
    replace_link(os.path.join(summary, ITEMS_FILE), os.path.join(config.output_dir, ITEMS_FILE))
    inference_link = os.path.join(config.output_dir, INFERENCE_LINK)
    if "BulkInferrer" in outputs.runs and is_model_blessed:
        replace_link(outputs.uri("BulkInferrer", "inference_result"), inference_link)
    else:
        remove_file(inference_link, missing_ok=True)  # from an earlier run
    _copy_rejected(
        os.path.join(summary, REJECTED_DIR), os.path.join(config.output_dir, REJECTED_DIR)
    )


def _copy_rejected(kept: str, shown: str) -> None:
    """Copies the rejected rows of this run's tables, also where they come from the cache."""
    remove_folder(shown)
    if is_folder(kept):
        copy_folder(kept, shown)

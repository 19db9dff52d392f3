"""AtomicPusher: pushes the servable if model and index are blessed.

The stock Pusher copies into the live version folder, and requires no blessing of the index.
`tfx_pipeline.versions.pushing` describes how a version is pushed.
"""

import os

from tfx import v1 as tfx
from tfx.components.evaluator import constants

from tfx_pipeline.components.tag_index_evaluator import BLESSED_PROPERTY, RECALL_PROPERTY
from tfx_pipeline.versions.pushing import PUSHED_FILE, push_if_blessed, unpushed
from trainer.contract.whole_files import write_json


@tfx.dsl.components.component
def AtomicPusher(  # noqa: N802 (a component is a class to its callers)
    servable: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    model_blessing: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ModelBlessing],
    index_blessing: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.InfraBlessing],
    pushed_model: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.PushedModel],
    base_path: tfx.dsl.components.Parameter[str],
    exact_base_path: tfx.dsl.components.Parameter[str],
    run_name: tfx.dsl.components.Parameter[str],
    code: tfx.dsl.components.Parameter[str],
) -> None:
    """Pushes the servable if model and index are blessed, and its towers not rolled back.

    Args:
      servable: Servable that becomes the version, see `servable_paths`.
      model_blessing: Blessing by the Evaluator.
      index_blessing: Blessing by the TagIndexEvaluator.
      pushed_model: Artifact with `pushed.json`, which states which version was pushed where; null:
        none.
      base_path: Folder of the numbered versions.
      exact_base_path: Folder of the versions with an exact index, under the same numbers; empty:
        none are pushed.
      run_name: Name of the configuration, for `version.json`.
      code: Fingerprint of the code, for the cache.
    """
    del code
    is_blessed = (
        model_blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
        and index_blessing.get_int_custom_property(BLESSED_PROPERTY) == 1
    )
    recall = index_blessing.get_float_custom_property(RECALL_PROPERTY)
    facts = {"run": run_name, "recall": recall}
    pushed = unpushed((base_path, exact_base_path), is_blessed, facts, servable.uri)
    pushed["version"] = push_if_blessed(pushed, servable.uri)
    pushed_model.set_int_custom_property("pushed", int(pushed["version"] is not None))
    write_json(os.path.join(pushed_model.uri, PUSHED_FILE), pushed)

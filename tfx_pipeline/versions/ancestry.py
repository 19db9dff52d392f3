"""Which model a training begins with and which one it is compared with, where TFX resolved it.

Kubeflow's runner takes TFX's own `LatestBlessedModelStrategy` alone. It answers with the model just
blessed, even where nothing has changed, and knows of no roll-back; `components.last_blessed` says
why both matter. Hence a model says what it came from (`ancestry.json` beside it), and the
components look further where what was resolved will not do. A local run's resolvers have looked
already, and nothing changes for it.
"""

import os

from tfx_pipeline.artifacts.json_files import read_artifact_json
from tfx_pipeline.versions.pushed_versions import read_versions, rolled_back_as
from trainer.contract.file_system import absolute, exists, is_file, is_folder
from trainer.contract.whole_files import write_json

ANCESTRY_FILE = "ancestry.json"
_EXAMPLES, _BASE_MODEL = "examples", "base_model"


def write_ancestry(model: str, examples: str, base_model: str | None) -> None:
    """Notes what a model came from.

    Args:
      model: URI of the artifact.
      examples: URI of the transformed examples.
      base_model: URI of the model that training began with; None: it began anew.
    """
    write_json(os.path.join(model, ANCESTRY_FILE), {_EXAMPLES: examples, _BASE_MODEL: base_model})


def model_of_other_examples(resolved: str, examples: str, base_path: str) -> str | None:
    """The model to begin with: the resolved one or, where that will not do, what it began with.

    So a run that is repeated on the same examples begins where the first one began, and not with
    that one's own model.

    Args:
      resolved: URI of the last blessed model.
      examples: URI of the transformed examples to train on.
      base_path: Folder of the pushed versions; empty: nothing was rolled back.

    Returns:
      URI of the nearest of its line that was neither trained on these examples nor rolled back;
      None: there is none.
    """
    uri: str | None = resolved
    while uri is not None:
        ancestry = {}
        path = os.path.join(uri, ANCESTRY_FILE)
        if is_file(path):
            ancestry = read_artifact_json(path)
        is_of_these = ancestry.get(_EXAMPLES) == examples
        if not is_of_these and not _is_rolled_back(uri, base_path) and exists(uri):
            return uri
        uri = ancestry.get(_BASE_MODEL)
    return None


def other_model(resolved: str, current: str, base_path: str) -> str | None:
    """The model to compare with: the resolved one or, where that will not do, the last one pushed.

    Args:
      resolved: URI of the last blessed model.
      current: URI of the model that is judged.
      base_path: Folder of the pushed versions; empty: there is none to look into.

    Returns:
      URI of a model that is another one and was not rolled back; None: there is none.
    """
    if not base_path:
        return None if absolute(resolved) == absolute(current) else resolved
    pushed = [
        version.provenance["towers"]
        for version in read_versions(base_path)
        if not version.is_withdrawn and "towers" in version.provenance
    ]
    for uri in (resolved, *reversed(pushed)):
        is_other = absolute(uri) != absolute(current) and not _is_rolled_back(uri, base_path)
        if is_other and is_folder(uri):
            return uri
    return None


def _is_rolled_back(uri: str, base_path: str) -> bool:
    return bool(base_path) and rolled_back_as(base_path, uri) is not None

"""Selects the model that a training starts from and the one it is compared with.

Kubeflow's runner accepts only TFX's own `LatestBlessedModelStrategy`. That strategy returns the
model just blessed, even where nothing has changed, and does not know of roll-backs;
`components.last_blessed` explains why both matter. Hence a model records its ancestry
(`ancestry.json` beside it), and the components look further where the resolved model is unsuitable.
In a local run the resolvers have already done so, and nothing changes.
"""

import os

from tfx_pipeline.artifacts.json_files import read_artifact_json
from tfx_pipeline.versions.pushed_versions import read_versions, rolled_back_as
from trainer.contract.file_system import absolute, exists, is_file, is_folder
from trainer.contract.whole_files import write_json

ANCESTRY_FILE = "ancestry.json"
_EXAMPLES, _BASE_MODEL = "examples", "base_model"


def write_ancestry(model: str, examples: str, base_model: str | None) -> None:
    """Writes the ancestry of a model beside it.

    Args:
      model: URI of the model artifact.
      examples: URI of the transformed examples.
      base_model: URI of the model that training started from; None: it started anew.
    """
    write_json(os.path.join(model, ANCESTRY_FILE), {_EXAMPLES: examples, _BASE_MODEL: base_model})


def model_of_other_examples(resolved: str, examples: str, base_path: str) -> str | None:
    """Returns the model to start from: the resolved one, or else one of its ancestors.

    So a repeated run on the same examples starts from the model that the first run started from,
    and not from the model that the first run made.

    Args:
      resolved: URI of the last blessed model.
      examples: URI of the transformed examples to train on.
      base_path: Folder of the pushed versions; empty: no version was rolled back.

    Returns:
      URI of the nearest model in its line that was neither trained on these examples nor rolled
      back; None: there is none.
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
    """Returns the model to compare with: the resolved one, or else the last suitable pushed one.

    Args:
      resolved: URI of the last blessed model.
      current: URI of the model that is evaluated.
      base_path: Folder of the pushed versions; empty: there are none to look at.

    Returns:
      URI of another model that was not rolled back; None: there is none.
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

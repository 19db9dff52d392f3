"""Where the servables of a run lie in their one artifact, and what describes them.

Both are one artifact: whatever is cached, copied or deleted, they stay of the same towers.
"""

import os

from tfx.utils import path_utils

from tfx_pipeline.artifacts.json_files import read_artifact_json

INDEX_FILE = "index.json"  # parameters and the measured curve, beside the servables
SOURCE_FILE = "source.json"  # towers and examples that they were made of
# Where the main one has a ScaNN index, the one with an exact index.
_EXACT_DIR = "Format-Serving-exact"


def main_path(uri: str) -> str:
    """The servable with the index that was chosen: where TFX's own components look."""
    return path_utils.serving_model_path(uri)


def second_path(uri: str) -> str:
    """The servable with an exact index beside one that is not."""
    return os.path.join(uri, _EXACT_DIR)


def exact_path(uri: str) -> str:
    """The servable in stock TensorFlow ops: the main one, where its index is exact."""
    is_exact = read_artifact_json(os.path.join(uri, INDEX_FILE))["kind"] == "exact"
    return main_path(uri) if is_exact else second_path(uri)

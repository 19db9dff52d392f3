"""Paths of a run's servables in their one artifact, and of the files that describe them.

Both servables are one artifact: whatever is cached, copied or deleted, they have the same towers.
"""

import os

from tfx.utils import path_utils

from tfx_pipeline.artifacts.json_files import read_artifact_json

INDEX_FILE = "index.json"  # index parameters and the measured curve, beside the servables
SOURCE_FILE = "source.json"  # towers and examples from which they were made
# Folder of the servable with an exact index, where the main one has a ScaNN index.
_EXACT_DIR = "Format-Serving-exact"


def main_path(uri: str) -> str:
    """Returns the servable with the chosen index, where TFX's own components look for it."""
    return path_utils.serving_model_path(uri)


def second_path(uri: str) -> str:
    """Returns the servable with an exact index, beside a main one whose index is not exact."""
    return os.path.join(uri, _EXACT_DIR)


def exact_path(uri: str) -> str:
    """Returns the servable in stock TensorFlow ops: the main one if its index is exact."""
    is_exact = read_artifact_json(os.path.join(uri, INDEX_FILE))["kind"] == "exact"
    return main_path(uri) if is_exact else second_path(uri)

"""The server and models of the fuzz lanes, and how messages are damaged."""

import contextlib
import random
from pathlib import Path

import hypothesis
import numpy as np
import tensorflow as tf

from serving.index.scann_index import ScannIndex, SearchParameters
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.serving.model_server import toy_models
from tests.serving.model_server.server_process import server_process
from tests.toy_towers import ToyTowers

CONFIG = """
model_config_list {{
  config {{
    name: "toy" base_path: "{folder}/toy" model_platform: "tensorflow"
    model_version_policy {{ all {{ }} }}
    version_labels {{ key: "stable" value: 1 }}
    version_labels {{ key: "canary" value: 2 }}
  }}
  config {{ name: "types" base_path: "{folder}/types" model_platform: "tensorflow" }}
  config {{ name: "tags" base_path: "{folder}/tags" model_platform: "tensorflow" }}
}}
"""
NUM_TAGS, K = 40, 3
# Much longer than an answer takes on a busy machine: a request without one hangs.
DEADLINE_S = 120.0
# Memory that a server's first requests take for good: buffers, pools, prepared graphs.
MAX_GROWTH_MB, MAX_NEW_THREADS = 150.0, 40


def lane(num_examples: int) -> hypothesis.settings:
    """Returns hypothesis settings with which every run sends the same requests."""
    return hypothesis.settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=num_examples,
        print_blob=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def save_tags(folder: Path) -> None:
    """Exports an index of tags with ScaNN's operations, and all signatures of a real servable."""
    rng = np.random.default_rng(0)
    users = rng.normal(size=(5, 8))
    candidates = rng.normal(size=(NUM_TAGS, 8))
    ToyTowers(users, candidates).save(folder / "towers")
    towers = tf.saved_model.load(str(folder / "towers"))
    index = ScannIndex(candidates.astype(np.float32), 2, SearchParameters(2, NUM_TAGS))
    retrieval = TagRetrieval(towers, index, K)
    description = {"index": {"kind": "scann", "num_tags": NUM_TAGS}}
    example = tf.train.Example()
    example.features.feature["name"].bytes_list.value.append(b"u1")
    export_servable(
        retrieval, str(folder / "tags" / "1"), description, [example.SerializeToString()]
    )


@contextlib.contextmanager
def fuzzed_server(folder: Path):
    """Runs `toy` (versions 1 and 2, labels `stable` and `canary`), `types` and `tags`."""
    for version in (1, 2):
        toy_models.save_toy(folder / "toy" / str(version), version)
    toy_models.save_types(folder / "types" / "1")
    save_tags(folder)
    config = folder / "models.config"
    config.write_text(CONFIG.format(folder=folder))
    flags = [f"--model_config_file={config}", "--allow_reload"]
    with server_process(folder, *flags) as server:
        memory_mb, num_threads = server.memory_mb, server.num_threads
        yield server
        assert server.is_alive
        assert server.memory_mb < memory_mb + MAX_GROWTH_MB
        assert server.num_threads <= num_threads + MAX_NEW_THREADS
        assert server.tracebacks() == []


def damaged(message: bytes, rng: random.Random) -> bytes:
    """Returns the message with some bytes changed, removed, doubled or inserted."""
    result = bytearray(message)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(result) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(result):
            result[at] = rng.randrange(256)
        elif kind == 1:
            del result[at : at + rng.randint(1, 8)]
        elif kind == 2:
            result[at:at] = rng.randbytes(rng.randint(1, 4))
        else:
            result[at:at] = result[max(0, at - 9) : at]
    return bytes(result)

"""Measures users a second of batch prediction, from JSON lines to Vertex's files, by local Beam."""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

NUM_USERS = (2_048, 14_336)


class BatchThroughput(NamedTuple):
    """Throughput of batch prediction.

    Attributes:
      users_per_second: Difference of the users of both runs over the difference of their times: it
        excludes the start of Beam and the loading of the version.
      overhead_seconds: Time of the smaller run without its users: start, loading, the end.
    """

    users_per_second: float
    overhead_seconds: float


def measure_batch_throughput(
    version_dir: str, instances: Sequence[dict[str, Any]], folder: str
) -> BatchThroughput:
    """Predicts for few and for many users, in this process.

    Args:
      version_dir: The version folder.
      instances: Users, which are repeated.
      folder: Folder for temporary input and output.

    Returns:
      The throughput.
    """
    from serving.batch.batch_predict import BatchPredictConfig, batch_predict
    from tfx_pipeline.config.beam import BeamConfig

    lines = [json.dumps(instance) + "\n" for instance in instances]
    seconds = []
    # The first run includes imports and does not count.
    for num_users in (NUM_USERS[0], *NUM_USERS):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            path = Path(name) / "instances.jsonl"
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(lines[i % len(lines)] for i in range(num_users))
            config = BatchPredictConfig(version_dir, str(path), str(Path(name) / "predictions"))
            started = time.perf_counter()
            batch_predict(config, BeamConfig().pipeline_args())
            seconds.append(time.perf_counter() - started)
    _, few, many = seconds
    users_per_second = (NUM_USERS[1] - NUM_USERS[0]) / (many - few)
    return BatchThroughput(users_per_second, few - NUM_USERS[0] / users_per_second)

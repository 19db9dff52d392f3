"""Runs a batch prediction that is killed at a known moment, in a separate process."""

import os
import signal

from serving.batch.batch_predict import BatchPredictConfig, batch_predict
from serving.batch.output import JsonLinesWriter

RUNNER = ["--runner=DirectRunner", "--direct_running_mode=in_memory"]
SHARDS_BEFORE_DEATH = 2


class DyingWriter(JsonLinesWriter):
    """Writes two shards whole and the third in part."""

    num_closed = 0

    def write(self, predictions):
        super().write(predictions)
        if DyingWriter.num_closed == SHARDS_BEFORE_DEATH:
            self._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    def close(self):
        super().close()
        DyingWriter.num_closed += 1


def predict_and_die(config: BatchPredictConfig) -> None:
    batch_predict(config, RUNNER, DyingWriter)

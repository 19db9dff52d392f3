"""Batch predictions as Parquet: a row for each tag of each user."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from serving.batch_predict_output import Predicted, PredictionWriter
from trainer.file_system import open_file

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),  # 1: the best
        pa.field("tag", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("probability", pa.float32()),  # null: the servable is older than probabilities
    ]
)
# Readers want row groups larger than a batch of users; a worker holds no more than one.
_ROWS_OF_A_GROUP = 1 << 18


class ParquetWriter(PredictionWriter):
    """Writes `PREDICTION_SCHEMA`; the key of an instance is its `user_id`."""

    format_name = "parquet"
    suffix = ".parquet"

    def __init__(self, path: str):
        """See `PredictionWriter`."""
        self._file = open_file(path, "wb")
        self._writer = pq.ParquetWriter(self._file, PREDICTION_SCHEMA)
        self._batches: list[pa.RecordBatch] = []

    def write(self, predictions: Sequence[Predicted]) -> None:
        """See `PredictionWriter.write`."""
        columns: list[list] = [[], [], [], [], []]
        user_ids, ranks, tags, scores, probabilities = columns
        for predicted in predictions:
            num_tags = len(predicted.tags)
            user_ids += [str(predicted.instance.key)] * num_tags
            ranks += range(1, num_tags + 1)
            tags += predicted.tags
            scores += predicted.scores
            probabilities += predicted.probabilities or [None] * num_tags
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(columns, PREDICTION_SCHEMA, strict=True)
        ]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=PREDICTION_SCHEMA))
        if sum(batch.num_rows for batch in self._batches) >= _ROWS_OF_A_GROUP:
            self._flush()

    def close(self) -> None:
        """See `PredictionWriter.close`."""
        self._flush()
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        if self._batches:
            self._writer.write_table(pa.Table.from_batches(self._batches, PREDICTION_SCHEMA))
            self._batches = []

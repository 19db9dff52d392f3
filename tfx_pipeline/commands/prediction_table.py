"""Batch predictions as Parquet: one row for each tag of each user.

Each row has the version and the time of the prediction, so that they are known where rows of many
days are combined; the file's metadata have them too, even for a file without rows.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

from serving.batch.output import ERRORS_PREFIX, Predicted, PredictedBy, PredictionWriter
from trainer.contract.arrow import pa
from trainer.contract.file_system import open_file

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),  # 1: the best
        pa.field("tag", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("probability", pa.float32()),  # null: the servable is older than probabilities
    ]
)
# Columns with one value per file, which take hardly any space.
PREDICTED_BY_SCHEMA = pa.schema(
    [
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("predicted_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
# Rows of a row group: readers need larger groups than a batch of users; a worker holds one group.
_ROWS_OF_A_GROUP = 1 << 18


class ParquetWriter(PredictionWriter):
    """Writes `PREDICTION_SCHEMA` and `PREDICTED_BY_SCHEMA`; an instance's key is its `user_id`."""

    format_name = "parquet"
    suffix = ".parquet"
    errors_prefix = f"_{ERRORS_PREFIX}"
    layout = 3

    def __init__(self, path: str, predicted_by: PredictedBy):
        """Opens the file, as `PredictionWriter` requires."""
        self._file = open_file(path, "wb")
        self._predicted_by = predicted_by
        metadata = {
            "model_name": predicted_by.model_name,
            "model_version": predicted_by.model_version,
            "predicted_at": predicted_by.time.isoformat(),
        }
        fields = [*PREDICTION_SCHEMA, *PREDICTED_BY_SCHEMA]
        self._schema = pa.schema(fields, {f"tagtower.{k}": v for k, v in metadata.items()})
        self._writer = pq.ParquetWriter(self._file, self._schema)
        self._batches: list[pa.RecordBatch] = []

    def write(self, predictions: Sequence[Predicted]) -> None:
        """Appends predictions, as `PredictionWriter.write` requires."""
        columns: list[list[Any]] = [[], [], [], [], []]
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
        """Writes the remaining rows and closes the file."""
        self._flush()
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        if not self._batches:
            return
        table = pa.Table.from_batches(self._batches, PREDICTION_SCHEMA)
        by = (self._predicted_by.model_version, self._predicted_by.time)
        constants = [
            pa.repeat(pa.scalar(value, field.type), table.num_rows)
            for value, field in zip(by, PREDICTED_BY_SCHEMA, strict=True)
        ]
        self._writer.write_table(
            pa.Table.from_arrays([*table.columns, *constants], schema=self._schema)
        )
        self._batches = []

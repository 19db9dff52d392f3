import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from serving.batch.input import Instance
from serving.batch.output import Predicted, PredictedBy
from tfx_pipeline.commands import prediction_table
from tfx_pipeline.commands.prediction_table import ParquetWriter

TIME = datetime.datetime(2024, 5, 3, 6, tzinfo=datetime.timezone.utc)
BY = PredictedBy("my-log", "7", TIME)


def predicted(key, tags, scores, probabilities):
    return Predicted(Instance("{}", key, {}), tags, scores, probabilities)


PREDICTIONS = [
    predicted("a", ["x", "y"], [2.0, 1.0], [0.5, 0.25]),
    predicted(7, ["é"], [-1.0], None),
    predicted("nobody", [], [], []),
]


def test_rows_are_the_tags_of_users_in_order_with_ranks_from_one(tmp_path):
    writer = ParquetWriter(str(tmp_path / "out.parquet"), BY)
    writer.write(PREDICTIONS)
    writer.write([])
    writer.close()

    table = pq.read_table(tmp_path / "out.parquet")

    assert table.schema.types == [
        pa.string(),
        pa.int32(),
        pa.string(),
        pa.float32(),
        pa.float32(),
        pa.string(),
        pa.timestamp("us", "UTC"),
    ]
    assert [field.nullable for field in table.schema] == [False] * 4 + [True] + [False] * 2
    by = {"model_version": "7", "predicted_at": TIME}
    assert table.to_pylist() == [
        {"user_id": "a", "rank": 1, "tag": "x", "score": 2.0, "probability": 0.5} | by,
        {"user_id": "a", "rank": 2, "tag": "y", "score": 1.0, "probability": 0.25} | by,
        {"user_id": "7", "rank": 1, "tag": "é", "score": -1.0, "probability": None} | by,
    ]


def test_file_without_predictions_has_the_schema(tmp_path):
    ParquetWriter(str(tmp_path / "out.parquet"), BY).close()

    table = pq.read_table(tmp_path / "out.parquet")

    assert table.num_rows == 0
    assert table.schema.names == [
        *("user_id", "rank", "tag", "score", "probability"),
        *("model_version", "predicted_at"),
    ]
    assert table.schema.metadata == {
        b"tagtower.model_name": b"my-log",
        b"tagtower.model_version": b"7",
        b"tagtower.predicted_at": b"2024-05-03T06:00:00+00:00",
    }


def test_batches_are_gathered_into_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_table, "_ROWS_OF_A_GROUP", 5)
    writer = ParquetWriter(str(tmp_path / "out.parquet"), BY)
    for _ in range(3):
        writer.write(PREDICTIONS)
    writer.close()

    file = pq.ParquetFile(tmp_path / "out.parquet")

    # Of three rows a batch: two batches make the five.
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [6, 3]

import numpy as np
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from benchmarks.example_encoders import record_batch
from tests.tfx_pipeline.examples.example_runs import parse
from tfx_pipeline.examples.columns import NumberColumn, TextColumn, Texts
from tfx_pipeline.examples.tf_examples import serialize_columns

COLUMNS = {
    "user_id": TextColumn.single(Texts(np.array(["ü", "b"], object)), np.array([1, 0])),
    "tags": TextColumn(
        Texts(np.array(["x", "日本"], object)), np.array([1, 0, 1]), np.array([0, 3, 3])
    ),
    "weights": NumberColumn(np.array([0.5, 2, 1], np.float32), np.array([0, 1, 3])),
    "time": NumberColumn.single(np.array([3, 2**40])),
}


def test_both_encoders_say_the_same():
    theirs = RecordBatchToExamplesEncoder().encode(record_batch(COLUMNS))

    assert [parse(example) for example in theirs] == [
        {"user_id": ["b"], "tags": ["日本", "x", "日本"], "weights": [0.5], "time": [3]},
        {"user_id": ["ü"], "tags": [], "weights": [2.0, 1.0], "time": [2**40]},
    ]
    assert [parse(example.as_py()) for example in serialize_columns(COLUMNS)] == [
        parse(example) for example in theirs
    ]

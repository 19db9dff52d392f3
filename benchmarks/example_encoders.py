"""Compares tagtower's encoder of examples with tfx-bsl's, on the columns that the pipeline makes.

`python -m benchmarks.example_encoders [INTERACTIONS]` makes the examples of a demo log, keeps the
columns of its first blocks of users, and encodes them by both encoders in turns: each time is
divided by the other encoder's next to it, so that a busy machine slows both. Decision:
docs/decisions/0004-example-encoder.md.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from unittest import mock

import numpy as np

from benchmarks.examples import generate, measure
from tfx_pipeline.examples import writer as example_writer
from tfx_pipeline.examples.columns import Column, NumberColumn
from tfx_pipeline.examples.tf_examples import serialize_columns
from trainer.contract.arrow import pa

DEFAULT_INTERACTIONS = 200_000
NUM_BATCHES, NUM_REPEATS = 40, 15

Columns = Mapping[str, Column]


def record_batch(columns: Columns) -> pa.RecordBatch:
    """Converts columns to the form that tfx-bsl encodes: lists of bytes, floats and integers."""
    names = sorted(columns, key=str.encode)
    return pa.RecordBatch.from_arrays([_lists(columns[name]) for name in names], names)


def _lists(column: Column) -> pa.Array:
    offsets = pa.array(column.offsets, pa.int32())
    if isinstance(column, NumberColumn):
        return pa.ListArray.from_arrays(offsets, pa.array(column.values))
    values = column.texts.strings.cast(pa.binary()).take(pa.array(column.codes))
    return pa.ListArray.from_arrays(offsets, values)


def recorded_columns(num_interactions: int) -> list[Columns]:
    """Returns columns of a demo log's first blocks of users, as the pipeline serializes them."""
    found: list[Columns] = []

    def record(columns: Columns) -> pa.Array:
        if len(found) < NUM_BATCHES and len(next(iter(columns.values())).offsets) > 1:
            found.append(columns)
        return serialize_columns(columns)

    with tempfile.TemporaryDirectory() as folder:
        generate(folder, num_interactions)
        with mock.patch.object(example_writer, "serialize_columns", record):
            measure(folder)
    return found


def seconds(encode: Callable[[], object]) -> float:
    """Measures the seconds of one call."""
    began = time.perf_counter()
    encode()
    return time.perf_counter() - began


def main(arguments: Sequence[str]) -> None:
    """Prints sizes, times and ratios."""
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    encoder = RecordBatchToExamplesEncoder()
    batches = recorded_columns(int(arguments[0]) if arguments else DEFAULT_INTERACTIONS)
    prepared = [record_batch(columns) for columns in batches]
    ours = [serialize_columns(columns).to_pylist() for columns in batches]
    theirs = [encoder.encode(batch) for batch in prepared]
    same_bytes = sum(
        a == b for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)
    )
    num_examples = sum(map(len, ours))
    print(
        f"{len(batches)} batches, {num_examples:,} examples, "
        f"{sum(map(len, sum(ours, []))) / 1e6:.1f} MB; the same bytes: {same_bytes:,}"
    )
    times: dict[str, list[float]] = {"ours": [], "tfx-bsl": [], "tfx-bsl and conversion": []}
    for _ in range(NUM_REPEATS):
        times["ours"].append(seconds(lambda: [serialize_columns(one) for one in batches]))
        times["tfx-bsl"].append(seconds(lambda: [encoder.encode(one) for one in prepared]))
        times["tfx-bsl and conversion"].append(
            seconds(lambda: [encoder.encode(record_batch(one)) for one in batches])
        )
    for name, found in times.items():
        ratios = np.divide(found, times["ours"])
        print(
            f"{name}: {statistics.median(found) / num_examples * 1e6:.2f} us an example, "
            f"ratio to ours {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
        )


if __name__ == "__main__":
    main(sys.argv[1:])

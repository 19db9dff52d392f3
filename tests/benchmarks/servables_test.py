import pytest
from tensorflow.core.protobuf import saved_model_pb2

from benchmarks.servables import (
    NUM_CALLS,
    OTHER,
    SERVED,
    SIGNATURES,
    LoadMeasurement,
    faults,
    flatten,
    num_nodes,
    table,
)
from tests.report_keys import undocumented_keys, unwritten_keys


def test_keys_are_documented_and_the_table_has_the_ratio_of_two():
    loads = {SERVED: LoadMeasurement(30, 0.5, 2.0, 50.0), OTHER: LoadMeasurement(120, 2, 8, 200)}
    seconds = {
        (which, signature, size): [milliseconds / 1000] * 3
        for which, milliseconds in ((SERVED, 3.0), (OTHER, 4.0))
        for signature in SIGNATURES
        for size in NUM_CALLS
    }
    figures = flatten(loads, seconds)

    assert figures["servable.served.retrieve.batch_64.latency_ms_p50"] == pytest.approx(3)
    assert figures["servable.other.embed_users.batch_1.latency_ms_p10"] == pytest.approx(4)
    assert undocumented_keys(figures) == []
    assert unwritten_keys(figures, "benchmarks/servables.py") == []
    rows = {line.split()[0]: line.split()[1:] for line in table(figures).splitlines()[2:]}
    assert len(rows) == 4 + 2 * len(SIGNATURES) * len(NUM_CALLS)
    assert [float(cell) for cell in rows["memory_mb_per_version"]] == [200, 50, 0.25]
    assert float(rows["retrieve.batch_1.latency_ms_p50"][2]) == 0.75
    assert faults(figures) == []


def test_nodes_of_the_graph_and_of_its_functions_are_counted(tmp_path):
    model = saved_model_pb2.SavedModel()
    graph = model.meta_graphs.add().graph_def
    graph.node.add(name="a")
    for _ in range(2):
        function = graph.library.function.add()
        function.node_def.add(name="b")
        function.node_def.add(name="c")
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())

    assert num_nodes(str(tmp_path)) == 5

"""Smaller functions of a SavedModel: the same answers from fewer operations."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.servable.compact_graph import compact_saved_model


class Module(tf.Module):
    """Slices, a condition, a loop, a check, a state and a lookup."""

    def __init__(self):
        super().__init__()
        self.calls = tf.Variable(0, trainable=False)
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant([1, 2], tf.int64), tf.constant([10, 20], tf.int64)
            ),
            default_value=-1,
        )

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")], autograph=False)
    def compute(self, x):
        self.calls.assign_add(1)
        checked = tf.debugging.check_numerics(x[:, 0], "no number")
        parts = [x[:, i] + x[:, i] for i in range(3)]
        tf.exp(x)  # nobody reads it
        total = tf.cond(
            tf.reduce_sum(checked) > 0, lambda: x[:, 0] * x[:, 1], lambda: x[:, 0] - x[:, 1]
        )
        _, looped = tf.while_loop(
            lambda i, _: i < 3, lambda i, y: (i + 1, y + x[:, 2]), (0, tf.identity(total))
        )
        before = self.calls.read_value()
        self.calls.assign_add(1)
        after = self.calls.read_value()
        keys = tf.cast(x[:, 0], tf.int64)
        found = self.table.lookup(keys) + self.table.lookup(keys)
        return {
            "found": found,
            "difference": after - before,
            "parts": tf.add_n(parts),
            "looped": looped,
            "same": tf.identity(x),
        }


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    paths = [str(tmp_path_factory.mktemp(name)) for name in ("as_traced", "compact")]
    module = Module()
    for path in paths:
        tf.saved_model.save(module, path, signatures={"serving_default": module.compute})
    compact_saved_model(paths[1])
    return paths


def functions(path):
    with open(f"{path}/saved_model.pb", "rb") as file:
        model = saved_model_pb2.SavedModel.FromString(file.read())
    return model.meta_graphs[0].graph_def.library.function


def traced(path):
    (found,) = (one for one in functions(path) if "__inference_compute_" in one.signature.name)
    return [node.op for node in found.node_def]


X = [[1.0, 2.0, 3.0], [-4.0, 5.0, -6.0], [0.5, 0.25, 0.125]]


@pytest.mark.parametrize("x", [X, X[1:2], np.zeros([0, 3])], ids=["true", "false", "empty"])
def test_answers_are_equal(folders, x):
    as_traced, compact = (tf.saved_model.load(path).signatures for path in folders)
    expected = as_traced["serving_default"](x=tf.constant(x, tf.float32))
    found = compact["serving_default"](x=tf.constant(x, tf.float32))
    assert set(found) == {"found", "difference", "parts", "looped", "same"}
    assert int(found["difference"]) == 1
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column)


def test_equal_operations_are_merged_and_unread_ones_go(folders):
    before, after = map(traced, folders)
    assert before.count("Exp") == 1 and after.count("Exp") == 0
    # Of each column one slice is left, of the six that were traced.
    assert before.count("StridedSlice") >= 7 and after.count("StridedSlice") == 3
    assert len(after) < 0.6 * len(before)


def test_checks_and_states_stay(folders):
    for path in folders:
        operations = traced(path)
        assert operations.count("LookupTableFindV2") == 2
        assert operations.count("ReadVariableOp") == 2
        loaded = tf.saved_model.load(path)
        call = loaded.signatures["serving_default"]
        with pytest.raises(tf.errors.InvalidArgumentError, match="no number"):
            call(x=tf.constant([[np.nan, 0.0, 0.0]]))
        before = int(loaded.calls)
        call(x=tf.constant(X))
        assert int(loaded.calls) == before + 2


def test_compacting_again_changes_nothing(folders):
    before = [one.SerializeToString(deterministic=True) for one in functions(folders[1])]
    compact_saved_model(folders[1])
    after = [one.SerializeToString(deterministic=True) for one in functions(folders[1])]
    assert after == before


def test_no_notes_of_shapes_are_left(folders):
    def noted(path):
        holders = [holder for one in functions(path) for holder in one.node_def]
        holders += [holder for one in functions(path) for holder in one.arg_attr.values()]
        return sum("_output_shapes" in holder.attr for holder in holders)

    assert noted(folders[0]) > 20
    assert noted(folders[1]) == 0
    loaded = tf.saved_model.load(folders[1]).signatures["serving_default"]
    assert loaded.structured_outputs["parts"].shape.as_list() == [None]

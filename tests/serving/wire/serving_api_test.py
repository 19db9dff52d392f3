"""The serving API's messages without TensorFlow, and with TensorFlow imported before or after."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
WITHOUT_TENSORFLOW = """
import sys
from serving.client import AsyncTagClient, EventFeatures, TagClient
from serving.wire.serving_api import predict_pb2, tensor_pb2
from tagtower_client.tensor_proto import to_numpy, write_compact
import numpy as np

with TagClient("127.0.0.1:1"):
    pass
features = EventFeatures.load({path!r})
event = {{"item_id": "i", "timestamp": 5, "clicked": 1, "tags": ["Jazz"]}}
assert features.instance([event])["clicked_tags"] == ["jazz"]
heavy = {{"tensorflow", "tensorflow.python", "tf_keras", "keras", "tfx", "apache_beam", "pyarrow"}}
print("heavy:", sorted(heavy & set(sys.modules)))

import tensorflow as tf
assert tf.constant([1.0]).numpy().tolist() == [1.0]  # the package itself, not its folder
assert sys.modules["tensorflow"] is tf
from tensorflow_serving.apis import predict_pb2 as usual
from tensorflow.core.framework import tensor_pb2 as usual_tensor
assert usual is predict_pb2 and usual_tensor is tensor_pb2
made = tf.make_tensor_proto([1.5])
assert type(made) is tensor_pb2.TensorProto
assert to_numpy(made).tolist() == [1.5]
request = predict_pb2.PredictRequest()
request.inputs["x"].CopyFrom(made)
write_compact(request.inputs["y"], np.array([2.5]))
assert tf.make_ndarray(request.inputs["y"]).tolist() == [2.5]
print("after it: TensorFlow", tf.__version__)
"""
AFTER_TENSORFLOW = """
import serving  # selects Keras 2
import tensorflow as tf
from serving.wire.serving_api import tensor_pb2
import sys
assert sys.modules["tensorflow"] is tf
assert type(tf.make_tensor_proto(1.0)) is tensor_pb2.TensorProto
print("before it: TensorFlow", tf.__version__)
"""


def run(code):
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


def test_client_imports_no_tensorflow_and_leaves_the_real_one_to_others(tmp_path):
    path = tmp_path / "tagtower.json"
    path.write_text(
        '{"features": {"domains": [{"name": "clicked_tags"}]}, "tag_normalization": {}}'
    )

    lines = run(WITHOUT_TENSORFLOW.format(path=str(path)))

    assert lines == ["heavy: []", "after it: TensorFlow 2.16.2"]


def test_messages_are_the_same_where_tensorflow_came_first():
    assert run(AFTER_TENSORFLOW) == ["before it: TensorFlow 2.16.2"]

"""Callers who ask for many sets of outputs do not make the server keep a graph for each."""

import random

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.model_server.session.predict import predict
from serving.model_server.session.servable import Servable
from tagtower_client.tensor_proto import write_numpy

NUM_OUTPUTS, NUM_SETS, NUM_STEPS = 10, 70, 60
# It was 270 MB, and two minutes.
MAX_GROWTH_MB = 50


class ManyOutputs(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(self, x):
        outputs = {}
        for number in range(NUM_OUTPUTS):
            y = x
            for step in range(NUM_STEPS):
                y = tf.sin(y) + number * step
            outputs[f"y{number}"] = y * 0 + number
        return outputs


@pytest.fixture(scope="module")
def servable(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("many_outputs"))
    module = ManyOutputs()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
    servable = Servable(folder)
    yield servable
    servable.close()


def memory_mb():
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def test_seventy_sets_of_outputs_are_one_graph(servable):
    random.seed(14)
    names = [f"y{number}" for number in range(NUM_OUTPUTS)]
    sets = [random.sample(names, random.randint(1, NUM_OUTPUTS)) for _ in range(NUM_SETS)]
    request = predict_pb2.PredictRequest()
    write_numpy(request.inputs["x"], np.zeros(2, np.float32))
    predict(servable, 1, request)
    before = memory_mb()
    for chosen in sets:
        request.output_filter[:] = chosen
        response = predict(servable, 1, request)
        assert {name: list(tensor.float_val) for name, tensor in response.outputs.items()} == {
            name: [float(name[1:])] * 2 for name in chosen
        }
    assert servable.num_calls == 1
    assert memory_mb() - before < MAX_GROWTH_MB

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.model_server.errors import ServingError
from serving.model_server.models import warmup
from serving.model_server.models.loading import load_servable
from serving.model_server.session.inference import REGRESS_METHOD
from tests.serving.model_server import toy_examples, toy_models

EXAMPLE = tf.train.Example.FromString(toy_examples.example(2.0))


def request(**inputs):
    sent = predict_pb2.PredictRequest()
    sent.model_spec.name = "another name"
    sent.model_spec.version.value = 99
    for name, value in inputs.items():
        sent.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return sent


@pytest.fixture
def model(tmp_path):
    toy_models.save_toy(tmp_path / "1", 1)
    return str(tmp_path / "1")


GOOD = {"x": np.array([1.0], np.float32)}


def test_records_are_answered_whatever_model_and_version_they_name(model):
    toy_models.write_warmup(model, [request(**GOOD)] * 3)
    servable = load_servable(model, 1)
    assert warmup.replay_warmup(servable, 1) == 3
    servable.close()


def test_version_without_records_loads(model):
    servable = load_servable(model, 1)
    assert warmup.replay_warmup(servable, 1) == 0
    servable.close()


def test_failing_record_fails_the_load(model):
    toy_models.write_warmup(model, [request(**GOOD), request(zz=[1.0])])
    with pytest.raises(ServingError, match="Signature input alias: x"):
        load_servable(model, 1)


def test_too_many_records_fail_the_load(model, monkeypatch):
    monkeypatch.setattr(warmup, "MAX_RECORDS", 2)
    toy_models.write_warmup(model, [request(**GOOD)] * 3)
    with pytest.raises(ServingError, match=r"Number of warmup records exceeds the maximum \(2\)"):
        load_servable(model, 1)


def write_logs(model, *logs):
    toy_models.write_warmup(model, [])
    with tf.io.TFRecordWriter(f"{model}/assets.extra/tf_serving_warmup_requests") as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def test_records_of_calls_for_examples_are_answered(tmp_path):
    model = str(tmp_path / "1")
    toy_examples.save_toy_examples(model, 1)
    examples = {"example_list": {"examples": [EXAMPLE]}}
    regress = {"model_spec": {"name": "m", "signature_name": "regress_x"}, "input": examples}
    classify = {"model_spec": {"name": "m", "signature_name": "classify_x"}, "input": examples}
    task = {"model_spec": regress["model_spec"], "method_name": REGRESS_METHOD}
    write_logs(
        model,
        prediction_log_pb2.PredictionLog(classify_log={"request": classify}),
        prediction_log_pb2.PredictionLog(regress_log={"request": regress}),
        prediction_log_pb2.PredictionLog(
            multi_inference_log={"request": {"tasks": [task], "input": examples}}
        ),
    )
    servable = load_servable(model, 1)

    assert warmup.replay_warmup(servable, 1) == 3
    assert servable.num_calls == 2
    servable.close()


def test_failing_record_of_examples_fails_the_load(tmp_path):
    model = str(tmp_path / "1")
    toy_examples.save_toy_examples(model, 1)
    write_logs(model, prediction_log_pb2.PredictionLog(regress_log={"request": {}}))
    with pytest.raises(ServingError, match="No signature was found with the name: serving_default"):
        load_servable(model, 1)


def test_record_of_another_call_fails_the_load(model):
    toy_models.write_warmup(model, [])
    path = f"{model}/assets.extra/tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(path) as writer:
        log = prediction_log_pb2.PredictionLog(session_run_log={})
        writer.write(log.SerializeToString())
    with pytest.raises(ServingError) as caught:
        load_servable(model, 1)
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED


def test_damaged_file_fails_the_load(model):
    toy_models.write_warmup(model, [request(**GOOD)])
    with open(f"{model}/assets.extra/tf_serving_warmup_requests", "r+b") as file:
        file.truncate(20)
    with pytest.raises(ServingError) as caught:
        load_servable(model, 1)
    assert caught.value.code is grpc.StatusCode.DATA_LOSS

"""BulkInferrer on real artifacts: a servable with a ScaNN index, and current instances."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.components.evaluator import constants
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, channel_utils, standard_artifacts

from serving.batch.servable_caller import ServableCaller
from serving.index.scann_index import ScannIndex, SearchParameters
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.toy_towers import ToyTowers, write_users
from tfx_pipeline.components.bulk_inferrer import now_bulk_inferrer
from trainer.contract import features as f

NUM_USERS, NUM_TAGS, SIZE, K = 20, 60, 8, 5


def artifact(kind, path):
    path.mkdir(parents=True, exist_ok=True)
    made = kind()
    made.uri = str(path)
    return made


@pytest.fixture(scope="module")
def servable_and_examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bulk")
    rng = np.random.default_rng(0)
    tags = rng.normal(size=(NUM_TAGS, SIZE))
    ToyTowers(rng.normal(size=(NUM_USERS, SIZE)), tags).save(folder / "towers")
    towers = tf.saved_model.load(str(folder / "towers"))
    index = ScannIndex(tags, 4, SearchParameters(4, NUM_TAGS))
    servable = artifact(standard_artifacts.Model, folder / "servable")
    export_servable(
        TagRetrieval(towers, index, K),
        str(folder / "servable" / "Format-Serving"),
        {"index": {"num_tags": NUM_TAGS}},
    )
    examples = artifact(standard_artifacts.Examples, folder / "examples")
    examples.split_names = artifact_utils.encode_split_names(["train", f.NOW_SPLIT])
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    names = [f"u{i}" for i in range(NUM_USERS)]
    for split, users in (("train", names[:3]), (f.NOW_SPLIT, names)):
        write_users(folder / "examples" / f"Split-{split}" / "data_tfrecord-00000.gz", users)
    return servable, examples


def infer(folder, servable, examples, is_blessed, pipeline_args):
    """Runs the component's own executor with its own properties and Beam arguments."""
    blessing = artifact(standard_artifacts.ModelBlessing, folder / "blessing")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(is_blessed))
    inputs = {"examples": [examples], "model": [servable], "model_blessing": [blessing]}
    channels = [channel_utils.as_channel(artifacts) for artifacts in inputs.values()]
    component = now_bulk_inferrer(*channels)
    result = artifact(standard_artifacts.InferenceResult, folder / "result")
    executor = component.executor_spec.executor_class(
        base_beam_executor.BaseBeamExecutor.Context(
            beam_pipeline_args=[*pipeline_args, *component.executor_spec.beam_pipeline_args],
            tmp_dir=str(folder / "tmp"),
            unique_id="1",
        )
    )
    executor.Do(inputs, {"inference_result": [result]}, component.spec.exec_properties)
    return [
        prediction_log_pb2.PredictionLog.FromString(record).predict_log
        for path in sorted((folder / "result").iterdir())
        for record in tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator()
    ]


# Worker processes load the servable only with ScaNN's op library in them.
@pytest.mark.parametrize(
    "mode", [("in_memory", 1), ("multi_processing", 2)], ids=["one_process", "workers"]
)
def test_every_user_now_gets_the_tags_of_batch_prediction(tmp_path, servable_and_examples, mode):
    servable, examples = servable_and_examples
    args = [f"--direct_running_mode={mode[0]}", f"--direct_num_workers={mode[1]}"]

    logs = infer(tmp_path, servable, examples, True, ["--runner=DirectRunner", *args])

    caller = ServableCaller(f"{servable.uri}/Format-Serving")
    expected = caller.retrieve([{"name": f"u{i}"} for i in range(NUM_USERS)])
    inferred = {}
    for log in logs:
        (serialized,) = log.request.inputs["examples"].string_val
        example = tf.train.Example.FromString(serialized)
        (name,) = example.features.feature["name"].bytes_list.value
        inferred[name.decode()] = log.response.outputs
    assert sorted(inferred) == sorted(f"u{i}" for i in range(NUM_USERS))
    for i in range(NUM_USERS):
        outputs = inferred[f"u{i}"]
        tags = tf.make_ndarray(outputs["tags"])
        assert tags.shape == (1, K)
        assert [tag.decode() for tag in tags[0]] == expected.tags[i]
        scores = tf.make_ndarray(outputs["scores"])[0]
        np.testing.assert_allclose(scores, expected.scores[i], rtol=1e-5)


def test_model_that_is_not_blessed_infers_nothing(tmp_path, servable_and_examples):
    logs = infer(tmp_path, *servable_and_examples, False, ["--runner=DirectRunner"])

    assert logs == []


def test_only_the_split_of_now_is_asked_for(servable_and_examples):
    servable, examples = servable_and_examples
    blessing = standard_artifacts.ModelBlessing()
    channels = [channel_utils.as_channel([made]) for made in (examples, servable, blessing)]

    properties = now_bulk_inferrer(*channels).spec.exec_properties

    assert json.loads(properties["data_spec"]) == {"example_splits": [f.NOW_SPLIT]}
    assert json.loads(properties["model_spec"]) == {"model_signature_name": ["serving_default"]}

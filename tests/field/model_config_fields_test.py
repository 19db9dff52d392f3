"""Each field of the real server's configurations is used or refused by name, never ignored."""

import dataclasses

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.errors import ServingError
from serving.model_server.models.model_config import ModelConfig, read_model_configs
from serving.model_server.models.text_proto import new_monitoring_config
from serving.model_server.models.version_policy import AllVersions, LatestVersions, SpecificVersions
from serving.model_server.server import ModelServer
from serving.model_server.session.request_log import RequestLogConfig
from tfx_pipeline.cli import main

MODEL = 'name: "m" base_path: "/m" model_platform: "tensorflow"'
POLICY = "FileSystemStoragePathSourceConfig.ServableVersionPolicy"

# Field -> a configuration with it, and the result.
HONOURED = {
    "ModelServerConfig.model_config_list": ("model_config_list { }", []),
    "ModelConfigList.config": (MODEL, [ModelConfig("m", "/m")]),
    "ModelConfig.name": ('name: "n" base_path: "/m" model_platform: "tensorflow"', "n"),
    "ModelConfig.base_path": ('name: "m" base_path: "/n" model_platform: "tensorflow"', "/n"),
    "ModelConfig.model_type": ('name: "m" base_path: "/m" model_type: TENSORFLOW', "m"),
    "ModelConfig.model_platform": (MODEL, "m"),
    "ModelConfig.model_version_policy": (
        f"{MODEL} model_version_policy {{ latest {{ }} }}",
        LatestVersions(1),
    ),
    "ModelConfig.version_labels": (
        f"{MODEL} version_labels {{ key: 'stable' value: 4 }}",
        {"stable": 4},
    ),
    "ModelConfig.VersionLabelsEntry.key": (
        f"{MODEL} version_labels {{ key: 'canary' value: 4 }}",
        {"canary": 4},
    ),
    "ModelConfig.VersionLabelsEntry.value": (
        f"{MODEL} version_labels {{ key: 'stable' value: 5 }}",
        {"stable": 5},
    ),
    f"{POLICY}.latest": (
        f"{MODEL} model_version_policy {{ latest {{ num_versions: 2 }} }}",
        LatestVersions(2),
    ),
    f"{POLICY}.all": (f"{MODEL} model_version_policy {{ all {{ }} }}", AllVersions()),
    f"{POLICY}.specific": (
        f"{MODEL} model_version_policy {{ specific {{ versions: 7 }} }}",
        SpecificVersions((7,)),
    ),
    f"{POLICY}.Latest.num_versions": (
        f"{MODEL} model_version_policy {{ latest {{ num_versions: 3 }} }}",
        LatestVersions(3),
    ),
    f"{POLICY}.Specific.versions": (
        f"{MODEL} model_version_policy {{ specific {{ versions: 7 versions: 9 }} }}",
        SpecificVersions((7, 9)),
    ),
}


def log(collector='type: "tfrecord" filename_prefix: "/logs/m"', sampling="sampling_rate: 0.5"):
    text = f"log_collector_config {{ {collector} }} sampling_config {{ {sampling} }}"
    return f"{MODEL} logging_config {{ {text} }}"


LOG = RequestLogConfig("/logs/m", 0.5)
HONOURED |= {
    "ModelConfig.logging_config": (log(), LOG),
    "LoggingConfig.log_collector_config": (log(), LOG),
    "LoggingConfig.sampling_config": (log(), LOG),
    "LogCollectorConfig.type": (log(), LOG),
    "LogCollectorConfig.filename_prefix": (
        log('type: "tfrecord" filename_prefix: "gs://bucket/m"'),
        RequestLogConfig("gs://bucket/m", 0.5),
    ),
    "SamplingConfig.sampling_rate": (
        log(sampling="sampling_rate: 1.0"),
        RequestLogConfig("/logs/m", 1.0),
    ),
}

REFUSED = {
    "ModelServerConfig.custom_model_config": (
        'custom_model_config { type_url: "type.googleapis.com/Mine" }',
        "ServerModelConfig type not supported by HandleReloadConfigRequest",
    ),
    "SamplingConfig.attributes": (
        log(sampling="sampling_rate: 1.0 attributes: 1"),
        "`logging_config.sampling_config.attributes` of model m must be left out, as this local "
        "model server logs none of them. Received: 1.",
    ),
}

WRONG_LOGS = {
    "": ("log_collector_config.type", "''"),
    'type: "file"': ("log_collector_config.type", "'file'"),
    'type: "tfrecord"': ("log_collector_config.filename_prefix", "''"),
    'type: "tfrecord" filename_prefix: "logs/m"': (
        "log_collector_config.filename_prefix",
        "'logs/m'",
    ),
    'type: "tfrecord" filename_prefix: "/logs/"': (
        "log_collector_config.filename_prefix",
        "'/logs/'",
    ),
}


def fields(descriptor):
    """Returns the fields of a message of the real server and of its messages: `Message.field`."""
    name = descriptor.full_name.removeprefix("tensorflow.serving.")
    for field in descriptor.fields:
        yield f"{name}.{field.name}"
        inner = field.message_type
        if inner is not None and inner.full_name.startswith("tensorflow.serving."):
            yield from fields(inner)


def read(text):
    if "config" not in text.split()[0]:
        text = f"model_config_list {{ config {{ {text} }} }}"
    return read_model_configs(text_format.Parse(text, model_server_config_pb2.ModelServerConfig()))


def test_every_field_of_a_servers_configuration_is_honoured_or_refused():
    known = set(fields(model_server_config_pb2.ModelServerConfig.DESCRIPTOR))
    assert known == {*HONOURED, *REFUSED}
    assert not HONOURED.keys() & REFUSED.keys()


@pytest.mark.parametrize("field", HONOURED)
def test_field_is_honoured(field):
    text, expected = HONOURED[field]
    models = read(text)
    if isinstance(expected, list):
        assert models == expected
        return
    (model,) = models
    values = [getattr(model, field.name) for field in dataclasses.fields(model)]
    assert expected in values


@pytest.mark.parametrize("field", REFUSED)
def test_field_is_refused_by_name(field):
    text, message = REFUSED[field]
    with pytest.raises(ServingError) as caught:
        read(text)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in caught.value.message


@pytest.mark.parametrize("collector", WRONG_LOGS)
def test_log_that_cannot_be_kept_is_refused_by_the_field(collector):
    field, received = WRONG_LOGS[collector]
    with pytest.raises(ServingError) as caught:
        read(log(collector))
    assert f"`logging_config.{field}` of model m must be" in caught.value.message
    assert caught.value.message.endswith(f" Received: {received}.")


@pytest.mark.parametrize("rate", ["0", "-0.5", "1.5", "nan", "inf"])
def test_sampling_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ServingError, match="sampling_rate` of model m must be above 0 and at most"):
        read(log(sampling=f"sampling_rate: {rate}"))


def test_field_of_a_later_release_is_refused_by_its_number():
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add()
    model.MergeFromString(text_format.Parse(MODEL, type(model)()).SerializeToString())
    model.model_version_policy.latest.MergeFromString(b"\x9a\x06\x01a")  # number 99, as bytes
    with pytest.raises(ServingError) as caught:
        read_model_configs(config)
    assert caught.value.message == (
        "Latest must have fields that this local model server knows. Received: field number 99."
    )


def test_fields_of_the_monitoring_configuration_are_the_two_that_are_honoured():
    # `metrics_path` of a server is made of both: tests/serving/model_server/flags_test.py.
    prometheus = new_monitoring_config().DESCRIPTOR.fields_by_name["prometheus_config"]
    assert list(prometheus.message_type.fields_by_name) == ["enable", "path"]
    assert [field.name for field in prometheus.containing_type.fields] == ["prometheus_config"]


def test_fields_of_a_reload_are_honoured_or_refused():
    assert set(fields(model_management_pb2.ReloadConfigRequest.DESCRIPTOR)) == {
        "ReloadConfigRequest.config",
        "ReloadConfigRequest.metric_names",
        *HONOURED,
        *REFUSED,
    }
    with ModelServer([], allows_reload=True) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            request = model_management_pb2.ReloadConfigRequest(metric_names=["/a/b"])
            request.config.model_config_list.SetInParent()
            with pytest.raises(grpc.RpcError) as caught:
                stub.HandleReloadConfigRequest(request, timeout=60)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert "`metric_names` must be left out" in caught.value.details()
            assert "Received: /a/b." in caught.value.details()

            request = model_management_pb2.ReloadConfigRequest()
            text = f"{MODEL} logging_config {{ sampling_config {{ sampling_rate: 1 }} }}"
            text_format.Parse(f"model_config_list {{ config {{ {text} }} }}", request.config)
            with pytest.raises(grpc.RpcError) as caught:
                stub.HandleReloadConfigRequest(request, timeout=60)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "`logging_config.log_collector_config.type` of model m" in caught.value.details()
        assert server.manager.models == {}


def test_serve_refuses_a_file_with_a_field_that_is_not_implemented(tmp_path, capfd):
    path = tmp_path / "models.config"
    text = f"{MODEL} logging_config {{ sampling_config {{ sampling_rate: 1 }} }}"
    path.write_text(f"model_config_list {{ config {{ {text} }} }}")

    assert main(["serve", "--port=0", f"--model_config_file={path}"]) == 2

    loading, line = capfd.readouterr().err.strip().splitlines()
    assert "Loading TensorFlow" in loading
    assert f"{path}: `logging_config.log_collector_config.type` of model m must be" in line


@pytest.mark.parametrize(
    "flag",
    [
        "--use_tflite_model",
        "--num_load_threads=2",
        "--rest_api_timeout_in_ms",
    ],
)
def test_flag_of_the_real_server_that_is_not_there_is_refused_by_name(flag, capfd):
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--model_base_path=/m", flag])
    assert caught.value.code == 2
    assert flag in capfd.readouterr().err


def test_log_in_a_scheme_that_nobody_reads_is_refused_at_once():
    collector = 'type: "tfrecord" filename_prefix: "s3://bucket/log"'
    with pytest.raises(ServingError, match="filename_prefix` of model m must be a local path"):
        read(log(collector))


def test_base_path_that_is_a_pattern_to_tensorflow_is_refused_at_once():
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add()
    model.name, model.base_path, model.model_platform = "m", "/models/m [1]", "tensorflow"
    with pytest.raises(ServingError, match=r"Model m: `base_path` must have none of \* \? \["):
        read_model_configs(config)

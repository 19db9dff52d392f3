"""Fields of the real server's configurations: each is honoured or refused by name, none ignored."""

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.errors import ServingError
from serving.model_server.model_config import ModelConfig, read_model_configs
from serving.model_server.server import ModelServer
from serving.model_server.text_proto import new_monitoring_config
from serving.model_server.version_policy import AllVersions, LatestVersions, SpecificVersions
from tfx_pipeline.cli import main

MODEL = 'name: "m" base_path: "/m" model_platform: "tensorflow"'
POLICY = "FileSystemStoragePathSourceConfig.ServableVersionPolicy"

# Field -> a configuration with it, and what comes of it.
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

REFUSED = {
    "ModelServerConfig.custom_model_config": (
        'custom_model_config { type_url: "type.googleapis.com/Mine" }',
        "ServerModelConfig type not supported by HandleReloadConfigRequest",
    ),
    **{
        field: (
            f"{MODEL} logging_config {{ {text} }}",
            "`logging_config` of model m must be left out, as this local model server does not "
            f"implement it. Received: logging_config {{ {text} }}.",
        )
        for field, text in {
            "ModelConfig.logging_config": 'log_collector_config { type: "a" }',
            "LoggingConfig.log_collector_config": 'log_collector_config { type: "b" }',
            "LoggingConfig.sampling_config": "sampling_config { sampling_rate: 1.0 }",
            "LogCollectorConfig.type": 'log_collector_config { type: "c" }',
            "LogCollectorConfig.filename_prefix": (
                'log_collector_config { filename_prefix: "/log" }'
            ),
            "SamplingConfig.sampling_rate": "sampling_config { sampling_rate: 0.5 }",
            "SamplingConfig.attributes": "sampling_config { attributes: 1 }",
        }.items()
    },
}


def fields(descriptor):
    """The fields of a message of the real server and of those in it: `Message.field`."""
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
    assert expected in (model.name, model.base_path, model.policy, model.version_labels)


@pytest.mark.parametrize("field", REFUSED)
def test_field_is_refused_by_name(field):
    text, message = REFUSED[field]
    with pytest.raises(ServingError) as caught:
        read(text)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in caught.value.message


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
    with ModelServer([], host="127.0.0.1") as server:
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
            assert "`logging_config` of model m must be left out" in caught.value.details()
        assert server.manager.models == {}


def test_serve_refuses_a_file_with_a_field_that_is_not_implemented(tmp_path, capfd):
    path = tmp_path / "models.config"
    text = f"{MODEL} logging_config {{ sampling_config {{ sampling_rate: 1 }} }}"
    path.write_text(f"model_config_list {{ config {{ {text} }} }}")

    assert main(["serve", "--port=0", f"--model_config_file={path}"]) == 2

    (line,) = capfd.readouterr().err.strip().splitlines()
    assert f"{path}: `logging_config` of model m must be left out" in line


@pytest.mark.parametrize(
    "flag",
    [
        "--enable_batching",
        "--ssl_config_file=a",
        "--num_load_threads=2",
        "--rest_api_timeout_in_ms",
    ],
)
def test_flag_of_the_real_server_that_is_not_there_is_refused_by_name(flag, capfd):
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--model_base_path=/m", flag])
    assert caught.value.code == 2
    assert flag in capfd.readouterr().err

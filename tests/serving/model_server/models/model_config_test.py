"""Configurations as text, and the real server's messages about wrong ones.

Source of the messages: TF Serving model_servers/server_core.cc and model_service_impl.cc.
"""

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.errors import ServingError
from serving.model_server.models.config_file import read_config_file
from serving.model_server.models.model_config import ModelConfig, read_model_configs
from serving.model_server.models.text_proto import new_monitoring_config, read_text_proto
from serving.model_server.models.version_labels import VersionLabels
from serving.model_server.models.version_policy import AllVersions, LatestVersions, SpecificVersions


def read(text):
    return read_model_configs(text_format.Parse(text, model_server_config_pb2.ModelServerConfig()))


def model(rest, name="toy", path="/models/toy", platform='model_platform: "tensorflow"'):
    return f'config {{ name: "{name}" base_path: "{path}" {platform} {rest} }}'


def models(*texts):
    return f"model_config_list {{ {' '.join(texts)} }}"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", LatestVersions(1)),
        ("model_version_policy { latest { num_versions: 3 } }", LatestVersions(3)),
        ("model_version_policy { latest { } }", LatestVersions(1)),
        ("model_version_policy { all { } }", AllVersions()),
        (
            "model_version_policy { specific { versions: 2 versions: 1 } }",
            SpecificVersions((2, 1)),
        ),
    ],
)
def test_policies_are_read(policy, expected):
    assert read(models(model(policy))) == [ModelConfig("toy", "/models/toy", expected)]


def test_several_models_and_labels_are_read():
    labels = "version_labels { key: 'canary' value: 2 } version_labels { key: 'stable' value: 1 }"
    text = models(model(labels), model("", "tags", "gs://bucket/tags"))
    first, second = read(text)
    assert first.version_labels == {"canary": 2, "stable": 1}
    assert (second.name, second.base_path) == ("tags", "gs://bucket/tags")


def test_empty_list_is_no_model():
    assert read("model_config_list { }") == []


def test_old_model_type_stands_for_the_platform():
    assert read(models(model("", platform="model_type: TENSORFLOW")))[0].name == "toy"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported",
        ),
        (
            "custom_model_config { }",
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported",
        ),
        (models(model(""), model("")), "Illegal to list model toy multiple times in config list"),
        (
            models(model("", "r", "rel/path")),
            "Expected model r to have an absolute path or URI; got base_path()=rel/path",
        ),
        (
            models(model("", platform="")),
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform.",
        ),
        (
            models(model("model_type: TENSORFLOW")),
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform.",
        ),
        (
            models(model("", platform="model_type: OTHER")),
            "ModelServerConfig::model_type choice 2 not supported.",
        ),
        (
            models(model("", platform='model_platform: "caffe"')),
            "Model toy requests unsupported platform caffe",
        ),
    ],
)
def test_wrong_configuration_has_the_real_servers_words(text, message):
    with pytest.raises(ServingError) as caught:
        read(text)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.message == message


def test_file_that_is_no_configuration_is_named_with_its_line(tmp_path):
    path = tmp_path / "models.config"
    path.write_text("model_config_list {\n  confg { }\n}\n")
    with pytest.raises(ValueError, match=r"`--model_config_file`.*models\.config: 2:3"):
        read_config_file(str(path))


@pytest.mark.parametrize(
    ("text", "is_enabled", "path"),
    [
        ("prometheus_config { enable: true }", True, ""),
        ('prometheus_config { enable: true, path: "/m" }', True, "/m"),
        ("", False, ""),
    ],
)
def test_monitoring_configuration_is_read(tmp_path, text, is_enabled, path):
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    config = read_text_proto("monitoring_config_file", str(file), new_monitoring_config())
    assert config.prometheus_config.enable is is_enabled
    assert config.prometheus_config.path == path


# Labels: ServerCore::UpdateModelVersionLabelMap.


def labelled(**labels):
    return [ModelConfig("toy", "/toy", version_labels=labels)]


def test_labels_are_replaced_as_a_whole():
    labels = VersionLabels()
    labels.assign(labelled(canary=2, stable=1), lambda name, version: True)
    labels.assign(labelled(stable=2), lambda name, version: True)
    assert labels.version_of("toy", "stable") == 2
    with pytest.raises(ServingError, match="Unrecognized servable version label: canary"):
        labels.version_of("toy", "canary")


def test_label_of_an_unavailable_version_is_refused_and_all_stay():
    labels = VersionLabels()
    labels.assign(labelled(stable=1), lambda name, version: True)
    with pytest.raises(ServingError) as caught:
        labels.assign(labelled(stable=2, bad=77), lambda name, version: version != 77)
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.message == (
        "Request to assign label to version 77 of model toy, which is not currently available for "
        "inference"
    )
    assert labels.version_of("toy", "stable") == 1


def test_allowed_unavailable_label_may_be_new_but_not_move():
    labels = VersionLabels(allows_unavailable=True)
    labels.assign(labelled(canary=5), lambda name, version: False)
    assert labels.version_of("toy", "canary") == 5
    with pytest.raises(ServingError, match="assign label to version 6"):
        labels.assign(labelled(canary=6), lambda name, version: False)

"""Checks of the image recipes that need no container to be built."""

import json
import os
import re
import subprocess
import types
from pathlib import Path

import pytest
import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from tests.docker_recipes import instructions

DOCKER = Path(__file__).parents[2] / "serving" / "docker"
DOCKERFILES = sorted(DOCKER.glob("*/Dockerfile"))
IMAGES = [path.parent.name for path in DOCKERFILES]

# Of the server's configuration the Python package has the models' alone; these messages are written
# after the server's own .proto files (session_bundle_config.proto, monitoring_config.proto).
_FIELD = descriptor_pb2.FieldDescriptorProto
_INT64_VALUE = (_FIELD.TYPE_MESSAGE, ".google.protobuf.Int64Value")
MESSAGES = {
    "BatchingParameters": [
        ("max_batch_size", 1, *_INT64_VALUE),
        ("batch_timeout_micros", 2, *_INT64_VALUE),
        ("max_enqueued_batches", 3, *_INT64_VALUE),
        ("num_batch_threads", 4, *_INT64_VALUE),
        ("thread_pool_name", 5, _FIELD.TYPE_MESSAGE, ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", 6, _FIELD.TYPE_INT64, "repeated"),
        ("pad_variable_length_inputs", 7, _FIELD.TYPE_BOOL, ""),
    ],
    "PrometheusConfig": [
        ("enable", 1, _FIELD.TYPE_BOOL, ""),
        ("path", 2, _FIELD.TYPE_STRING, ""),
    ],
    "MonitoringConfig": [
        ("prometheus_config", 1, _FIELD.TYPE_MESSAGE, ".tagtower.PrometheusConfig"),
    ],
}


def parse(name: str, text: str):
    """Parses a text proto of one of `MESSAGES`."""
    file = descriptor_pb2.FileDescriptorProto(
        name="server.proto",
        package="tagtower",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for message_name, fields in MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for field_name, number, kind, detail in fields:
            field = message.field.add(name=field_name, number=number, type=kind)
            is_repeated = detail == "repeated"
            field.label = _FIELD.LABEL_REPEATED if is_repeated else _FIELD.LABEL_OPTIONAL
            if kind == _FIELD.TYPE_MESSAGE:
                field.type_name = detail
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName(f"tagtower.{name}")
    message = message_factory.MessageFactory(pool).GetPrototype(descriptor)()
    return text_format.Parse(text, message)


def read(name: str) -> str:
    return (DOCKER / name).read_text(encoding="utf-8")


# The server's configuration.


def test_models_config_serves_the_clients_default_model():
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(read("models.config"), config)

    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("default", "/models/default")
    assert model.model_version_policy.latest.num_versions == 1


def test_batching_parameters_are_the_servers_and_never_pad():
    batching = parse("BatchingParameters", read("batching.conf"))

    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes)) and sizes[-1] == batching.max_batch_size.value
    assert batching.num_batch_threads.value >= 1 and batching.batch_timeout_micros.value > 0
    # It would repeat a user's first tag.
    assert not batching.pad_variable_length_inputs
    with pytest.raises(text_format.ParseError):
        parse("BatchingParameters", "max_batch { value: 64 }")


def test_monitoring_is_on_at_tensorflow_servings_own_path():
    monitoring = parse("MonitoringConfig", read("monitoring.conf"))

    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


# The images.


def test_there_are_the_three_images():
    assert IMAGES == ["scann", "stock", "vertex"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=IMAGES)
def test_base_images_are_pinned_to_the_tensorflow_of_the_lock(path):
    lines = instructions(path)
    defaults = dict(args.split("=", 1) for name, args in lines if name == "ARG" and "=" in args)
    bases = [args.split()[0] for name, args in lines if name == "FROM"]
    bases = [re.sub(r"\$\{(\w+)\}", lambda match: defaults[match.group(1)], base) for base in bases]

    lock = (DOCKER.parents[1] / "requirements.lock").read_text("utf-8")
    (api,) = re.findall(r"^tensorflow-serving-api==(\S+)", lock, re.MULTILINE)
    assert bases and set(bases) <= {f"tensorflow/serving:{api}", f"tensorflow/serving:{api}-devel"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=IMAGES)
def test_every_file_that_an_image_copies_or_names_is_there(path):
    copied = {}
    for name, arguments in instructions(path):
        if name == "COPY" and not arguments.startswith("--from"):
            *sources, target = arguments.split()
            for source in sources:
                assert (DOCKER / source).is_file(), source
                copied[target + os.path.basename(source) if target.endswith("/") else target] = (
                    source
                )
    (entry_point,) = [json.loads(args) for name, args in instructions(path) if name == "ENTRYPOINT"]

    named = {word.partition("=")[2] or word for word in entry_point if "/" in word}
    assert named and named <= set(copied)


def test_scann_image_has_the_scann_of_the_lock():
    lock = (DOCKER.parents[1] / "requirements.lock").read_text("utf-8")
    (version,) = re.findall(r"^scann==(\S+)", lock, re.MULTILINE)

    assert f"""grep -q 'version="{version}"'""" in read("scann/Dockerfile")


def test_sources_come_from_github_alone():
    urls = {
        url
        for path in DOCKER.rglob("*")
        if path.is_file()
        for url in re.findall(r"https?://[^\s/\"]+", path.read_text("utf-8"))
    }

    assert urls == {"https://github.com"}


# The compose file.


@pytest.fixture(scope="module")
def services() -> dict:
    return yaml.safe_load(read("docker-compose.yaml"))["services"]


def test_compose_builds_what_is_there_and_mounts_base_paths(services):
    assert set(services) == {"exact", "exact-batching", "scann", "vertex"}
    ports = [port.partition(":")[0] for service in services.values() for port in service["ports"]]
    assert len(set(ports)) == len(ports)
    for name, service in services.items():
        folder = (DOCKER / service["build"]["context"]).resolve()
        assert folder == DOCKER.resolve()
        assert (folder / service["build"]["dockerfile"]).is_file()
        (volume,) = service["volumes"]
        # Behind a variable, whose message has spaces and no colon.
        source, target = re.fullmatch(r"\$\{[^}]*\}(/[\w/]+):([\w/]+):ro", volume).groups()
        assert target == "/models/default"
        # A server without the ops gets the export without them.
        assert source == ("/serving" if name == "scann" else "/serving_exact")


def test_batching_is_on_only_where_it_was_asked_for(services):
    batching = {
        name
        for name, service in services.items()
        if any(flag.startswith("--enable_batching") for flag in service.get("command", []))
    }

    assert batching == {"exact-batching"}
    assert services["exact-batching"]["profiles"] == ["batching"]
    flags = dict(flag.split("=", 1) for flag in services["exact-batching"]["command"])
    assert flags["--batching_parameters_file"] == "/etc/tagtower/batching.conf"


# The entry point for Vertex.


def run_entry_point(tmp_path: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess:
    tools = tmp_path / "bin"
    tools.mkdir()
    server = tools / "tensorflow_model_server"
    server.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    server.chmod(0o755)
    return subprocess.run(
        ["sh", str(DOCKER / "vertex" / "entrypoint.sh"), *flags],
        env={
            "PATH": f"{tools}:/usr/bin:/bin",
            "TAGTOWER_MODELS_CONFIG": str(tmp_path / "models.config"),
            **variables,
        },
        capture_output=True,
        text=True,
    )


def served(tmp_path: Path):
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((tmp_path / "models.config").read_text(), config)
    (model,) = config.model_config_list.config
    return model


def test_vertex_variables_become_the_servers_flags(tmp_path):
    finished = run_entry_point(
        tmp_path,
        "--enable_batching=true",
        AIP_HTTP_PORT="7080",
        AIP_STORAGE_URI="gs://bucket/artifacts/",
        AIP_PREDICT_ROUTE="/v1/models/tags-1:predict",
        AIP_HEALTH_ROUTE="/v1/models/tags-1",
    )

    assert finished.returncode == 0, finished.stderr
    flags = finished.stdout.splitlines()
    assert "--rest_api_port=7080" in flags and flags[-1] == "--enable_batching=true"
    assert f"--model_config_file={tmp_path}/models.config" in flags
    model = served(tmp_path)
    assert (model.name, model.base_path) == ("tags-1", "gs://bucket/artifacts")
    assert model.model_version_policy.latest.num_versions == 1


def test_vertex_storage_that_is_a_version_serves_that_version(tmp_path):
    finished = run_entry_point(tmp_path, AIP_STORAGE_URI="gs://bucket/serving_exact/1790000000")

    assert finished.returncode == 0, finished.stderr
    assert "--rest_api_port=8080" in finished.stdout.splitlines()
    model = served(tmp_path)
    assert (model.name, model.base_path) == ("default", "gs://bucket/serving_exact")
    assert list(model.model_version_policy.specific.versions) == [1790000000]


@pytest.mark.parametrize(
    ("variables", "variable"),
    [
        ({"AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict"}, "AIP_PREDICT_ROUTE"),
        ({"AIP_PREDICT_ROUTE": "/v1/models/a/versions/3:predict"}, "AIP_PREDICT_ROUTE"),
        ({"AIP_PREDICT_ROUTE": "/v1/models/:predict"}, "AIP_PREDICT_ROUTE"),
        ({"AIP_PREDICT_ROUTE": '/v1/models/a" b:predict'}, "AIP_PREDICT_ROUTE"),
        ({"AIP_PREDICT_ROUTE": "/v1/models/a:predict"}, "AIP_HEALTH_ROUTE"),
        ({"AIP_HEALTH_ROUTE": "/health"}, "AIP_HEALTH_ROUTE"),
    ],
)
def test_routes_that_the_server_does_not_have_are_refused_in_a_line(tmp_path, variables, variable):
    finished = run_entry_point(tmp_path, **variables)

    assert (finished.returncode, finished.stdout) == (2, "")
    (line,) = finished.stderr.splitlines()
    assert line.startswith(f"entrypoint.sh: {variable} must") and "Received: " in line


# Linking ScaNN's ops, on stand-ins written as the two projects' files are.

SERVERS = """\
SUPPORTED_TENSORFLOW_OPS = if_v2([]) + if_not_v2([
    "@org_tensorflow//tensorflow/contrib:contrib_kernels",
]) + [
    "@org_tensorflow_text//tensorflow_text:ops_lib",
]
"""
WORKSPACE = """\
load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")

def tf_serving_workspace():
    http_archive(
        name = "org_tensorflow_text",
    )
"""
OPS = """\
load("@pybind11_bazel//:build_defs.bzl", "pybind_library")

cc_library(
    name = "scann_ops",
    deps = [
        "@local_config_tf//:libtensorflow_framework",
        "@local_config_tf//:tf_header_lib",
    ],
    alwayslink = 1,
)

pybind_library(
    name = "scann_npy",
    deps = [
        ":scann",
    ],
)

cc_library(
    name = "after",
)
"""


@pytest.fixture
def sources(tmp_path):
    serving, scann = tmp_path / "serving", tmp_path / "scann"
    ops = scann / "scann" / "scann_ops" / "cc"
    servers = serving / "tensorflow_serving" / "model_servers"
    (ops / "python").mkdir(parents=True)
    servers.mkdir(parents=True)
    (servers / "BUILD").write_text(SERVERS)
    (servers.parent / "workspace.bzl").write_text(WORKSPACE)
    (ops / "BUILD.bazel").write_text(OPS)
    (ops / "python" / "BUILD.bazel").write_text('load("@pybind11_bazel//:build_defs.bzl")\n')
    return serving, scann


def link(sources) -> subprocess.CompletedProcess:
    script = DOCKER / "scann" / "link_scann_ops.sh"
    command = ["sh", str(script), *map(str, sources)]
    return subprocess.run(command, capture_output=True, text=True)


class Build:
    """Reads a Bazel file as the Python that it nearly is."""

    def __init__(self, path: Path):
        self.rules: dict[str, dict] = {}

        def rule(**attributes):
            self.rules[attributes["name"]] = attributes

        self.names = {
            "load": lambda *unused: None,
            "cc_library": rule,
            "http_archive": rule,
            "native": types.SimpleNamespace(local_repository=rule),
            "if_v2": lambda value: value,
            "if_not_v2": lambda value: [],
        }
        exec(path.read_text(), self.names)


def test_scann_ops_are_linked_and_nothing_installed_is_asked_for(sources):
    finished = link(sources)

    assert finished.returncode == 0, finished.stdout + finished.stderr
    serving, scann = sources
    ops = Build(scann / "scann" / "scann_ops" / "cc" / "BUILD.bazel").rules
    assert set(ops) == {"scann_ops", "after", "scann_ops_static"}
    assert ops["scann_ops"]["deps"] == ["@org_tensorflow//tensorflow/core:tensorflow_opensource"]
    assert ops["scann_ops_static"]["deps"] == [":scann_ops", ":scann_ops_kernels"]
    assert ops["scann_ops_static"]["alwayslink"] == 1
    servers = Build(serving / "tensorflow_serving" / "model_servers" / "BUILD").names
    assert servers["SUPPORTED_TENSORFLOW_OPS"] == [
        "@org_tensorflow_text//tensorflow_text:ops_lib",
        "@com_google_scann//scann/scann_ops/cc:scann_ops_static",
    ]
    workspace = Build(serving / "tensorflow_serving" / "workspace.bzl")
    workspace.names["tf_serving_workspace"]()
    assert workspace.rules["com_google_scann"]["path"] == str(scann)
    assert {"com_google_highway", "cnpy", "org_tensorflow_text"} < set(workspace.rules)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("serving/tensorflow_serving/model_servers/BUILD", "SUPPORTED_TENSORFLOW_OPS = []\n"),
        ("serving/tensorflow_serving/workspace.bzl", "def workspace():\n    pass\n"),
        ("scann/scann/base.BUILD/BUILD.bazel", '    "@local_config_tf//:something_else",\n'),
    ],
)
def test_sources_written_otherwise_fail_the_build(sources, tmp_path, file, text):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)

    finished = link(sources)

    assert finished.returncode == 1
    assert finished.stderr.startswith("link_scann_ops.sh: ")

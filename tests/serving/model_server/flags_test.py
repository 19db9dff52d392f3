import argparse
import os
import re
import signal
import subprocess
import sys

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.model_server.callers.limit_flags import channel_arguments
from serving.model_server.callers.request_log_flags import request_log_options
from serving.model_server.flags import add_serve_arguments, run_server
from serving.model_server.session.log_options import RequestLogOptions


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_serve_arguments(parser)
    return parser.parse_args(arguments)


def test_defaults_are_the_real_servers():
    arguments = parse()
    assert arguments.port == 8500
    assert arguments.rest_api_port == 8501
    assert arguments.model_name == "default"
    assert arguments.file_system_poll_wait_seconds == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "`--model_base_path` must be the absolute path"),
        (["--model_base_path=rel/path"], "Received: --model_base_path='rel/path'"),
        (["--model_base_path=/x", "--model_name="], "`--model_name` must not be empty"),
        (["--model_base_path=/x", "--port=70000"], "`port` must be between 0 and 65535"),
        (
            ["--model_base_path=/x", "--file_system_poll_wait_seconds=-1"],
            "`file_system_poll_wait_seconds` must not be negative",
        ),
        (["--model_base_path=/x", "--grpc_max_threads=0"], "`--grpc_max_threads` must be positive"),
        (
            ["--model_base_path=/x", "--batching_parameters_file=/b"],
            "`--batching_parameters_file` must come with --enable_batching. Received: "
            "--batching_parameters_file=/b.",
        ),
        (["--model_base_path=/x", "--max_message_bytes=0"], "`max_message_bytes` must be between"),
        (["--model_base_path=/x", "--max_batch_size=0"], "`--max_batch_size` must be positive"),
        (
            ["--model_base_path=/x", "--max_request_memory_mb=16"],
            "`max_request_memory_mb` must hold a request of max_message_bytes=33554432",
        ),
        (
            ["--model_base_path=/x", "--request_read_timeout_seconds=nan"],
            "`--request_read_timeout_seconds` must be positive",
        ),
        (
            ["--model_base_path=/x", "--grpc_channel_arguments=grpc.x"],
            "`--grpc_channel_arguments` must be name=value pairs",
        ),
        (
            ["--model_base_path=/x", "--request_log_file_mb=0"],
            "`--request_log_file_mb` must be positive",
        ),
        (
            ["--model_base_path=/x", "--request_log_file_seconds=nan"],
            "`--request_log_file_seconds` must be positive",
        ),
        (
            ["--model_base_path=/x", "--request_log_id_names= ,"],
            "`--request_log_id_names` must name a tensor or feature",
        ),
        (
            ["--model_base_path=/x", "--request_log_salt_file=/dev/null"],
            "`--request_log_salt_file` must name a file with a secret of 16 or more bytes",
        ),
        (["--model_base_path=/x", "--drain_seconds=-1"], "`--drain_seconds` must not be negative"),
        (
            ["--model_base_path=/x", "--tensorflow_intra_op_parallelism=-1"],
            "`--tensorflow_intra_op_parallelism` must not be negative",
        ),
    ],
)
def test_wrong_value_is_one_clear_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        run_server(parse(*arguments))
    assert "\n" not in str(caught.value)


def test_options_of_the_request_log_are_those_of_the_flags(tmp_path):
    assert request_log_options(parse()) == RequestLogOptions()
    salt = tmp_path / "salt"
    salt.write_text("0123456789abcdef\n")
    salt.chmod(0o600)
    given = parse(
        "--request_log_file_mb=0.5",
        "--request_log_file_seconds=60",
        "--request_log_id_names=user_id, account",
        f"--request_log_salt_file={salt}",
    )
    options = request_log_options(given)
    assert options == RequestLogOptions(
        file_bytes=512 << 10,
        file_s=60.0,
        id_names=("user_id", "account"),
        salt=b"0123456789abcdef",
    )
    assert "0123" not in repr(options)


def test_channel_arguments_are_read_as_the_real_servers():
    text = "grpc.max_connection_age_ms=2000,grpc.primary_user_agent=me"
    assert channel_arguments(text) == [
        ("grpc.max_connection_age_ms", 2000),
        ("grpc.primary_user_agent", "me"),
    ]
    assert channel_arguments("") == []


SLOW_STEPS = 100_000  # some tenths of a second

MAIN = """
import argparse, sys
from serving.model_server.flags import add_serve_arguments, run_server
parser = argparse.ArgumentParser()
add_serve_arguments(parser)
sys.exit(run_server(parser.parse_args()))
"""


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("model_config_list { oops }", "`--model_config_file` must name a file with a Model"),
        (
            'model_config_list { config { name: "r" base_path: "rel" } }',
            "Expected model r to have an absolute path or URI; got base_path\\(\\)=rel",
        ),
    ],
)
def test_wrong_configuration_file_is_one_clear_line(tmp_path, config, message):
    path = tmp_path / "models.config"
    path.write_text(config)
    with pytest.raises(ValueError, match=message) as caught:
        run_server(parse(f"--model_config_file={path}"))
    assert "\n" not in str(caught.value)


def test_absent_configuration_file_is_named():
    with pytest.raises(FileNotFoundError) as caught:
        run_server(parse("--model_config_file=/no/such/file"))
    assert caught.value.filename == "/no/such/file"


@pytest.mark.parametrize(
    ("argument", "expected"), [("", True), ("=true", True), ("=false", False), ("=0", False)]
)
def test_switch_stands_alone_or_with_a_value(argument, expected):
    arguments = parse(f"--enable_grpc_healthcheck_service{argument}")
    assert arguments.enable_grpc_healthcheck_service is expected


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, "--port=0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_command_serves_a_file_of_models_and_a_request_outlives_sigterm(
    toy_versions, types_versions, tmp_path
):
    config = tmp_path / "models.config"
    config.write_text(
        f"""
        model_config_list {{
          config {{
            name: "toy" base_path: "{toy_versions}" model_platform: "tensorflow"
            model_version_policy {{ all {{}} }}
            version_labels {{ key: "stable" value: 1 }}
          }}
          config {{ name: "types" base_path: "{types_versions}" model_platform: "tensorflow" }}
        }}
        """
    )
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    process = start(
        "--rest_api_port=0",
        f"--model_config_file={config}",
        "--model_config_file_poll_wait_seconds=1",
        f"--monitoring_config_file={monitoring}",
        "--file_system_poll_wait_seconds=1",
    )
    try:
        line = process.stdout.readline()
        match = re.fullmatch(r"Serving toy version 2, types version 1: gRPC on (\d+)\.\n", line)
        with grpc.insecure_channel(f"127.0.0.1:{match[1]}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "toy"
            request.model_spec.version_label = "stable"
            request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([1.0], np.float32)))
            assert list(stub.Predict(request).outputs["y"].float_val) == [1.5]
            slow = predict_pb2.PredictRequest()
            slow.model_spec.name = "types"
            slow.model_spec.signature_name = "slow"
            slow.inputs["steps"].CopyFrom(tf.make_tensor_proto(np.array([SLOW_STEPS])))
            call = stub.Predict.future(slow)
            # Calls of one connection are taken in order: when this one is answered, the slow one
            # is under way.
            stub.Predict(request)
            process.send_signal(signal.SIGTERM)
            assert list(call.result().outputs["count"].int64_val) == [SLOW_STEPS]
        output, errors = process.communicate(timeout=180)
    finally:
        process.kill()
    assert (process.returncode, output, errors) == (0, "Stopped by SIGTERM.\n", "")


def test_command_says_what_it_serves_and_ends_well_on_sigterm(toy_versions):
    process = start(f"--model_base_path={toy_versions}", "--rest_api_port=0", "--model_name=toy")
    try:
        line = process.stdout.readline()
        assert re.fullmatch(r"Serving toy version 2: gRPC on \d+\.\n", line)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=180)
    finally:
        process.kill()
    assert process.returncode == 0
    assert output == "Stopped by SIGTERM.\n"
    assert errors == ""

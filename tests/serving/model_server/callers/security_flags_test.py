"""A mistake in the security flags is one line, before TensorFlow is loaded."""

import argparse
import logging
import subprocess
import sys

import pytest

from serving.model_server.callers.security_flags import check_security, load_security
from serving.model_server.flags import add_serve_arguments, run_server


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_serve_arguments(parser)
    return parser.parse_args(["--model_base_path=/x", "--port=0", "--rest_api_port=0", *arguments])


def test_out_of_the_box_this_machine_alone_may_call_and_nobody_reloads():
    arguments = parse()
    check_security(arguments)
    security = load_security(arguments)
    assert arguments.host == "127.0.0.1"
    assert security.grpc_credentials() is None and security.ssl_context() is None
    assert security.authorize("/a/b", []) is None
    assert arguments.allow_reload is False


@pytest.fixture
def token_path(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("t" * 32)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("host", "has_tokens", "line"),
    [
        ("127.0.0.1", False, ""),
        ("127.0.0.1", True, ""),
        ("0.0.0.0", False, "Anyone who reaches --host=0.0.0.0 may call this server"),
        ("0.0.0.0", True, "Tokens cross the network unencrypted on --host=0.0.0.0"),
    ],
)
def test_what_others_reach_without_protection_is_warned_of(
    token_path, caplog, host, has_tokens, line
):
    caplog.set_level(logging.WARNING, "tagtower.model_server")
    flags = [f"--bearer_token_file={token_path}"] if has_tokens else []
    arguments = parse(f"--host={host}", *flags)
    check_security(arguments)
    load_security(arguments)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == (
        [line.partition(":")[0]] if line else []
    )


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--host=192.0.2.1", "`host` must be an address of this machine"),
        ("--model_roots=here", "`--model_roots` must be absolute paths of folders"),
        ("--bearer_token_file={}", "`bearer_token_file` must name a file with one token a line"),
        ("--ssl_config_file={}", "`ssl_config_file` must hold, as PEM"),
    ],
)
def test_wrong_value_is_one_clear_line(tmp_path, flag, message):
    empty = tmp_path / "empty"
    empty.write_text("")
    with pytest.raises(ValueError, match=message) as caught:
        run_server(parse(flag.format(empty)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flag", ["--ssl_config_file", "--bearer_token_file"])
def test_absent_file_is_named_before_tensorflow_is_loaded(flag):
    code = f"""
import sys
from tests.serving.model_server.callers.security_flags_test import parse, run_server
try:
    run_server(parse("{flag}=/no/such/file"))
except FileNotFoundError as error:
    print(error.filename, "tensorflow" in sys.modules)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert finished.stdout == "/no/such/file False\n"

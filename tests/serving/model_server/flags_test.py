import argparse
import os
import re
import signal
import subprocess
import sys

import pytest

from serving.model_server.flags import add_serve_arguments, run_server


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
    ],
)
def test_wrong_value_is_one_clear_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        run_server(parse(*arguments))
    assert "\n" not in str(caught.value)


MAIN = """
import argparse, sys
from serving.model_server.flags import add_serve_arguments, run_server
parser = argparse.ArgumentParser()
add_serve_arguments(parser)
sys.exit(run_server(parser.parse_args()))
"""


def test_command_says_what_it_serves_and_ends_well_on_sigterm(toy_versions):
    command = [sys.executable, "-c", MAIN, f"--model_base_path={toy_versions}", "--port=0"]
    process = subprocess.Popen(
        [*command, "--rest_api_port=0", "--model_name=toy"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        line = process.stdout.readline()
        assert re.fullmatch(r"Serving toy version 2: gRPC on \d+\.\n", line)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert output == ""
    assert errors == ""

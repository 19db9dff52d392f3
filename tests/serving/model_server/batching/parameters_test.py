"""The parameters of batching: TensorFlow Serving's defaults, files and rules."""

import os
from pathlib import Path

import pytest

from serving.model_server.batching.parameters import (
    BatchingParameters,
    read_batching_parameters,
)

DOCKER_FILE = Path(__file__).parents[4] / "serving" / "docker" / "batching.conf"


def read(folder: Path, text: str) -> BatchingParameters:
    path = folder / "batching.conf"
    path.write_text(text)
    return read_batching_parameters(str(path))


def test_an_empty_file_has_the_defaults_of_tensorflow_serving(tmp_path):
    assert read(tmp_path, "") == BatchingParameters(
        max_batch_size=1000,
        batch_timeout_micros=0,
        max_enqueued_batches=10,
        num_batch_threads=os.cpu_count(),
        thread_pool_name="batch_threads",
        allowed_batch_sizes=(),
        pad_variable_length_inputs=False,
        enable_large_batch_splitting=False,
        max_execution_batch_size=None,
    )


def test_every_parameter_of_a_file_is_read(tmp_path):
    text = """
        max_batch_size { value: 64 } batch_timeout_micros { value: 1000 }
        max_enqueued_batches { value: 100 } num_batch_threads { value: 3 }
        thread_pool_name { value: "pool" } pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true } max_execution_batch_size { value: 16 }
        allowed_batch_sizes: 4 allowed_batch_sizes: 16
    """
    parameters = read(tmp_path, text)

    assert parameters == BatchingParameters(64, 1000, 100, 3, "pool", (4, 16), True, True, 16)
    assert parameters.most_rows == 16
    assert [parameters.filled_up(size) for size in (1, 4, 5, 16)] == [4, 4, 16, 16]


def test_the_largest_batch_is_max_batch_size_where_requests_are_not_split(tmp_path):
    parameters = read(tmp_path, "max_batch_size { value: 8 } max_execution_batch_size { value: 2 }")

    assert parameters.most_rows == 8
    assert parameters.filled_up(5) == 5


def test_the_file_for_the_stock_server_is_read():
    parameters = read_batching_parameters(str(DOCKER_FILE))

    assert (parameters.max_batch_size, parameters.allowed_batch_sizes) == (64, (1, 4, 16, 64))
    assert not parameters.pad_variable_length_inputs


SPLIT = "enable_large_batch_splitting { value: true } "
REFUSED = {
    "max_batch_size { value: 0 }": (
        "`max_batch_size` of --batching_parameters_file must be positive. Received: 0."
    ),
    "max_batch_size { value: -5 }": (
        "`max_batch_size` of --batching_parameters_file must be positive. Received: -5."
    ),
    "num_batch_threads { value: 0 }": (
        "`num_batch_threads` of --batching_parameters_file must be positive. Received: 0."
    ),
    "max_execution_batch_size { value: 0 }": (
        "`max_execution_batch_size` of --batching_parameters_file must be positive. Received: 0."
    ),
    "max_enqueued_batches { value: -1 }": (
        "`max_enqueued_batches` of --batching_parameters_file must be 0 or more. Received: -1."
    ),
    SPLIT + "max_enqueued_batches { value: 0 }": (
        "`max_enqueued_batches` of --batching_parameters_file must be 1 or more. Received: 0."
    ),
    "batch_timeout_micros { value: -1 }": (
        "`batch_timeout_micros` of --batching_parameters_file must be 0 or more. Received: -1."
    ),
    "max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: 4": (
        "`allowed_batch_sizes` of --batching_parameters_file must be positive numbers in rising "
        "order. Received: [8, 4]."
    ),
    "max_batch_size { value: 8 } allowed_batch_sizes: 4": (
        "`allowed_batch_sizes` of --batching_parameters_file must end with the largest batch, 8 "
        "(max_execution_batch_size where requests are split, otherwise max_batch_size). Received: "
        "[4]."
    ),
    SPLIT + "max_batch_size { value: 8 } max_execution_batch_size { value: 9 }": (
        "`max_execution_batch_size` of --batching_parameters_file must be at most "
        "max_batch_size=8. Received: 9."
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_values_out_of_range_are_refused_in_one_line(tmp_path, text):
    with pytest.raises(ValueError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == REFUSED[text]


def test_zero_enqueued_batches_mean_one_as_in_tensorflow_serving(tmp_path):
    assert read(tmp_path, "max_enqueued_batches { value: 0 }").max_enqueued_batches == 0


def test_an_unknown_parameter_is_refused_with_its_name_and_place(tmp_path):
    with pytest.raises(ValueError) as caught:
        read(tmp_path, "max_batch_size { value: 8 }\nmax_batches { value: 1 }")
    assert str(caught.value) == (
        "`--batching_parameters_file` must name a file with a BatchingParameters as text. "
        f'Received: {tmp_path}/batching.conf: 2:1 : Message type "BatchingParameters" has no field '
        'named "max_batches"..'
    )

"""A user's mistake at the command line is one line with exit status 2 and no traceback."""

import pytest

from tfx_pipeline.cli import main
from tfx_pipeline.terminal.command_line import COMMANDS, build_parser


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["run", "--config", "no-such.yaml"], "no-such.yaml"),
        (["query", "--num_tags", "0", "--features", "{}"], "num_tags"),
        (["query", "--features", "{"], "features"),
        (["query", "--features", "[]"], "features"),
        (["query", "--features", "@no-such.json"], "no-such.json"),
        (["query"], "--features"),
        (["query", "--user", "1"], "config"),
        (["query", "--features", "{}", "--user", "1"], "--features"),
        (["prepare", "demo", "--output", "OUT", "--num_users", "0"], "num_users"),
        (["prepare", "movielens-1m", "--source", "X", "--tags", "Y", "--output", "OUT"], "X"),
    ],
)
def test_mistake_is_one_line_that_names_the_value(arguments, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    status = main(arguments)

    captured = capsys.readouterr()
    assert status == 2
    assert len(captured.err.strip().splitlines()) == 1
    assert named in captured.err


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--use_tflite_model", "--use_tflite_model"),
        ("--tensorflow_session_parallelism=2", "--tensorflow_session_parallelism=2"),
        ("--model_config=x", "--model_config=x"),  # not taken for --model_config_file
        ("--port=x", "--port"),
        ("--enable_grpc_healthcheck_service=maybe", "--enable_grpc_healthcheck_service"),
    ],
)
def test_flag_the_server_does_not_know_is_named_in_one_line(flag, named, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--model_base_path=/x", flag])

    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert len(captured.err.strip().splitlines()) == 1
    assert named in captured.err


def test_unreachable_server_is_one_line_with_advice(capsys):
    status = main(
        ["query", "--server", "localhost:1", "--timeout", "1", "--features", '{"clicked_tags": []}']
    )

    captured = capsys.readouterr()
    assert status == 2
    assert len(captured.err.strip().splitlines()) == 1
    assert "localhost:1" in captured.err


def test_batch_prediction_without_versions_is_one_line(tmp_path, capfd):
    status = main(
        ["batch-predict", "--model_base_path", str(tmp_path), "--input", "x", "--output"]
        + [str(tmp_path / "out")]
    )

    assert status == 2
    assert "model_base_path" in capfd.readouterr().err


def test_mistyped_key_is_named_with_its_path(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: x\ndata: {interactions: a, items: b, users: c}\n"
        "features: {domains: [{name: tags_clicked, max_value: 3}]}\n"
    )

    status = main(["run", "--config", str(path)])

    error = capsys.readouterr().err
    assert status == 2
    assert "features.domains[0].max_value" in error and "max_values" in error


def test_every_command_has_a_help_text():
    text = build_parser().format_help()

    for command in COMMANDS:
        assert command in text

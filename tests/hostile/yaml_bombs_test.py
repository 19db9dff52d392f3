"""Configurations and feature values that would fill memory or time are refused in a line."""

import time

import pytest
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.models.text_proto import read_text_proto
from tfx_pipeline.cli import main
from tfx_pipeline.config.yaml_document import parse_yaml


def laughs(levels, width):
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


def merged_laughs(levels, width):
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


NESTED = "is nested more than 64 levels deep."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (laughs(12, 9), "whose 14 values become 7.5e+10; line 6, `a5`."),
        (merged_laughs(9, 9), ", `a5.<<"),
        ("a:\n  b: &x [*x]\n", "line 2: a.b[0]."),
        ("a: &x {b: *x}\n", "alias that contains itself"),
        ("a: &x\n  <<: *x\n", "alias that contains itself"),
        ("a: " + "[" * 10_000, NESTED),
        ("a: " + "[" * 5_000 + "]" * 5_000, NESTED),
        ("a: " + "{a: " * 5_000 + "}" * 5_000, NESTED),
        ("- " * 5_000 + "a", NESTED),
        ("\n".join(" " * n + "a:" for n in range(300)), f"line 64, column 64: it {NESTED}"),
        ("a: 1\nb: {c: 1, c: 2}\n", "`b.c` in line 2 and in line 2."),
        ("a: " + "9" * 100_000, "at most 400 digits. Received: f.yaml, line 1, `a`"),
        ("a: 0x" + "f" * 100_000, "at most 400 digits. Received: f.yaml, line 1, `a`"),
        ("a:\n- 1e999999\n", "numbers below 1.8e308. Received: f.yaml, line 2, `a[0]`: 1e999999."),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1, `a`: !!python/object/apply:os.sys"),
        ("a: !!python/name:os.system\n", "without tags"),
        ("%TAG ! tag:evil,2000:\n---\na: !x b\n", "line 3, `a`: tag:evil,2000:x."),
        ('a: "x\\0y"\n', "text without NUL and lone surrogates. Received: f.yaml, line 1, `a"),
        ('a:\n  b: "\\ud800"\n', "line 2, `a.b`: '\\ud800'."),
        (b"a: b\nc: \xff\n", "f.yaml (invalid start byte, line 2)."),
        (b"a: b\0\n", "NUL characters"),
        ("a: b".encode("utf-32"), "NUL characters"),
        ("a: b".encode("utf-16")[:-1], "truncated data"),
        ("a: b\nc: \x07\n", "f.yaml: line 2: a character that YAML does not allow ('\\x07')."),
        (
            "a: " + "x" * (1 << 20),
            "at most 1 MB. Received: f.yaml, which is larger. Check the path, or shorten",
        ),
    ],
)
def test_document_is_refused_in_a_line_at_once(text, said):
    started = time.process_time()

    with pytest.raises(ValueError) as refused:
        parse_yaml(text, "f.yaml")

    message = str(refused.value)
    assert said in message and "f.yaml" in message
    assert message.isprintable() and len(message) < 300
    assert time.process_time() - started < 30


def test_long_list_of_tags_is_read():
    tags = [f"tag number {n}" for n in range(17_000)]
    text = "blocked_tags:\n" + "".join(f"- {tag}\n" for tag in tags)
    assert len(text) > 1 << 18

    assert parse_yaml(text, "f.yaml") == {"blocked_tags": tags}


def test_infinity_that_is_written_as_such_is_one():
    assert parse_yaml("a: .inf\nb: 1e308\nc: -.Inf\n", "f") == {
        "a": float("inf"),
        "b": 1e308,
        "c": -float("inf"),
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"custom_model_config { [type.googleapis.com/tensorflow.serving.ModelServerConfig] { "
            * 600,
            "it is nested 1200 levels deep, at most 64 are allowed.",
        ),
        (b"model_config_list { " * 5000, "it is nested 5000 levels deep"),
        (b"\xff", "invalid start byte"),
        (b"\0", "Expected identifier"),
        (b"# " + b"x" * (5 << 20), "it has more than 4 MB."),
    ],
)
def test_list_of_models_is_refused_in_a_line(tmp_path, content, said):
    path = tmp_path / "models.config"
    path.write_bytes(content)

    with pytest.raises(ValueError) as refused:
        read_text_proto("model_config_file", str(path), model_server_config_pb2.ModelServerConfig())

    message = str(refused.value)
    assert said in message and f"Received: {path}: " in message


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 100_000,
        b'{"a": 1,\n"a": 2}',
        b'{\n"a": [\n',
        b"x" * (17 << 20),
        b"\0",
    ],
)
def test_file_of_feature_values_is_refused_in_a_line(tmp_path, capsys, content):
    path = tmp_path / "user.json"
    path.write_bytes(content)

    status = main(["query", "--server=localhost:1", "--features", f"@{path}"])

    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tagtower query: `features` must ")

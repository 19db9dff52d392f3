"""Configurations as people write them: read as meant, or refused in one line with the place."""

import json

import pytest

from tfx_pipeline.cli import main
from tfx_pipeline.config import pipeline as c
from tfx_pipeline.config.yaml_document import parse_yaml
from tfx_pipeline.study.grid.definition import load_study

MINIMAL = (
    "name: log\n"
    "data: {interactions: i.csv, items: t.csv, users: u.csv}\n"
    "features: {domains: [{name: clicked}]}\n"
)


def write(tmp_path, content, name="log.yaml"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def refusal(tmp_path, content):
    """Returns the message about a file, with FILE in place of its path."""
    path = write(tmp_path, content)
    with pytest.raises(ValueError) as error:
        c.load_config(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return str(error.value).replace(path, "FILE")


# --- values ---


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),  # text in YAML 1.1
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", float("-inf")),
        ("0", 0),
        ("-7", -7),
        ("1_000_000", 1_000_000),
        ("1_000.5", 1000.5),
        ("0x1F", 31),
        ("12:30:00", "12:30:00"),  # 45000 in YAML 1.1
        ("1:30.5", "1:30.5"),
        ("010", "010"),  # 8 in YAML 1.1
        ("007", "007"),
        ("0o17", "0o17"),
        ("0b11", "0b11"),
        ("1_", "1_"),
        ("2024-05-03", "2024-05-03"),  # a date in YAML 1.1
        ("2024-05-03T06:00:00Z", "2024-05-03T06:00:00Z"),
        ("2024-05-03 06:00:00", "2024-05-03 06:00:00"),
        ("=", "="),  # an error in PyYAML
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("NO", "NO"),
        ("'yes'", "yes"),
        ("~", None),
        ("", None),
        ("null", None),
        ("'1'", "1"),
        ("!!str 123", "123"),
        ("!!float 1", 1.0),
        ("1e", "1e"),
        ("é", "é"),
    ],
)
def test_value_is_what_was_written(written, value):
    (found,) = parse_yaml(f"- {written}\n", "x")
    assert found == value and isinstance(found, type(value))


@pytest.mark.parametrize("key", ["on", "yes", "1", "1.0", "null", "~", "2024-05-03", "010", "é"])
def test_key_is_the_text_that_was_written(key):
    assert parse_yaml(f"{key}: x\n", "x") == {key: "x"}


def test_words_for_true_and_false_are_what_the_key_takes(tmp_path):
    text = MINIMAL.replace("users: u.csv", "users: u.csv, tag_normalization: {trim: no}").replace(
        "[{name: clicked}]", "[{name: clicked}], profile: [{name: country, values: [no, on, se]}]"
    )

    config = c.load_config(write(tmp_path, text))

    assert config.data.tag_normalization.trim is False
    assert config.features.profile[0].values == ("no", "on", "se")
    # All of it is plain: it goes into TFX's properties.
    assert json.loads(c.to_json(config))["features"]["profile"][0]["values"] == ["no", "on", "se"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("'yes'", "`data.tag_normalization.trim` must be true or false. Received: 'yes'."),
        ("1", "`data.tag_normalization.trim` must be true or false. Received: 1."),
    ],
)
def test_text_in_quotation_marks_is_no_boolean(tmp_path, written, message):
    text = MINIMAL.replace("users: u.csv", f"users: u.csv, tag_normalization: {{trim: {written}}}")

    assert refusal(tmp_path, text) == f"FILE: {message}"


@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        ("examples.test_start", "2024-05-03", "2024-05-03"),
        ("examples.test_start", "2024-05-03T12:30:00", "2024-05-03T12:30:00"),
        ("training.learning_rate", "1e-3", 0.001),
        ("seed", "1_000", 1000),
    ],
)
def test_configuration_has_the_value(tmp_path, key, written, value):
    section, _, name = key.partition(".")
    text = {
        "examples": "examples: {split: temporal, validation_start: 2024-05-02, "
        f"{name}: {written}}}\n",
        "training": f"training: {{{name}: {written}}}\n",
        "seed": f"seed: {written}\n",
    }[section]

    config = c.load_config(write(tmp_path, MINIMAL + text))

    found = getattr(config, section)
    assert (getattr(found, name) if name else found) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 010\n", "FILE: `seed` must be an integer. Received: '010'."),
        ("seed: 12:30\n", "FILE: `seed` must be an integer. Received: '12:30'."),
        ("seed: 1e3\n", "FILE: `seed` must be an integer. Received: 1000.0."),
        ("output: 7\n", "FILE: `output` must be a string. Received: 7. In quotation marks it is"),
        ("yes: 1\n", "FILE: `yes` is not a known key. Known keys: "),
        ("1: 1\n", "FILE: `1` is not a known key. Known keys: "),
        (
            "examples:num_shards\n",
            "`config` must be valid YAML. Received: FILE: line 5, column 1: ",
        ),
        (
            "examples:\n  num_shards:2\n",
            "FILE: `examples` must be a mapping of keys to values. Received: 'num_shards:2'. Put "
            "a space after the colon of a key.",
        ),
    ],
)
def test_value_of_another_kind_is_refused_as_it_was_written(tmp_path, text, message):
    assert refusal(tmp_path, MINIMAL + text).startswith(message)


# --- keys that are there twice ---


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (MINIMAL + "data: {interactions: x.csv}\n", "`data` in line 2 and in line 4"),
        (MINIMAL + "examples:\n  num_shards: 1\n\n  num_shards: 2\n", "`examples.num_shards` in"),
        (MINIMAL.replace("}\n", ", items: t.csv}\n", 1), "`data.items` in line 2 and in line 2"),
        (MINIMAL.replace("{name: c", "{name: b, name: c"), "`features.domains[0].name` in line 3"),
        (MINIMAL + "'name': log\n", "`name` in line 1 and in line 4"),
        (MINIMAL + "1: a\n'1': b\n", "`1` in line 4 and in line 5"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}\n", "`b.<<` in line 2 and in line 2"),
    ],
)
def test_key_that_is_there_twice_is_named_with_its_lines(tmp_path, text, named):
    message = refusal(tmp_path, text)

    assert message.startswith(f"`config` must have each key once. Received: FILE: {named}")


def test_study_is_read_as_strictly(tmp_path):
    path = write(tmp_path, "name: s\nbase: {config: demo}\ntowers: {a: {}, b: {}, a: {}}\n")

    with pytest.raises(ValueError, match="each key once. Received: .*: `towers.a` in line 3 and"):
        load_study(path)


# --- aliases ---


def test_alias_repeats_and_merges_a_part():
    text = "a: &a {x: 1, y: [2]}\nb: {<<: *a, x: 3}\nc: *a\nd: {x: 4, <<: [*a, {z: 5}]}\n"

    assert parse_yaml(text, "x") == {
        "a": {"x": 1, "y": [2]},
        "b": {"x": 3, "y": [2]},
        "c": {"x": 1, "y": [2]},
        "d": {"x": 4, "y": [2], "z": 5},
    }


def laughs(levels):
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            laughs(10),
            "`config` must stay small when its aliases are expanded. Received: FILE, whose 12 ",
        ),
        (
            laughs(60),
            "`config` must stay small when its aliases are expanded. Received: FILE, whose 62 ",
        ),
        ("a: &a [*a]", "`config` must not have an alias that contains itself. Received: FILE"),
        ("a: &a {b: {c: *a}}", "`config` must not have an alias that contains itself. Rec"),
        ("a: *b", "`config` must be valid YAML. Received: FILE: line 1, column 4: found undefined"),
        ("a: &a 1\nb: {<<: *a}", "`config` must be valid YAML. Received: FILE: line 1, column 4: "),
    ],
)
def test_alias_that_blows_up_is_refused(tmp_path, text, message):
    assert refusal(tmp_path, text).startswith(message)


# --- tags ---


@pytest.mark.parametrize(
    ("tagged", "shown"),
    [
        ("!!python/object/apply:os.system ['touch x']", "!!python/object/apply:os.system"),
        ("!!python/name:os.system ''", "!!python/name:os.system"),
        ("!!binary aGk=", "!!binary"),
        ("!!set {x}", "!!set"),
        ("!!timestamp 2024-05-03", "!!timestamp"),
        ("!env HOME", "!env"),
        ("!<tag:example.org,2000:x> 1", "tag:example.org,2000:x"),
    ],
)
def test_tag_is_refused_in_a_line(tmp_path, tagged, shown):
    message = refusal(tmp_path, MINIMAL + f"serving: {{base_path: {tagged}}}\n")

    assert message == (
        "`config` must have plain values without tags. "
        f"Received: FILE, line 4, `serving.base_path`: {shown}."
    )


def test_value_that_is_not_of_its_tag_is_refused(tmp_path):
    assert refusal(tmp_path, MINIMAL + "seed: !!int x\n") == (
        "`config` must have a value that matches its tag !!int. Received: FILE, line 4, `seed`: x."
    )


# --- files ---


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + MINIMAL.encode(),
        MINIMAL.encode("utf-16"),
        MINIMAL.replace("\n", "\r\n").encode(),
        MINIMAL.replace("\n", "\r").encode(),
        b"---\n" + MINIMAL.encode() + b"...\n",
        b"# a comment\n\n" + MINIMAL.encode().rstrip(),
    ],
)
def test_file_is_read_in_any_encoding_it_names(tmp_path, content):
    assert c.load_config(write(tmp_path, content)) == c.load_config(write(tmp_path, MINIMAL, "x"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: \xff", "`config` must be a YAML file in UTF-8. Received: FILE (invalid start"),
        ("name: x".encode("utf-16-le"), "`config` must be a YAML file in UTF-8. Received: FILE, "),
        (
            b"name: x\n\tseed: 1",
            "`config` must be valid YAML. Received: FILE: line 2, column 1: a tab",
        ),
        (
            MINIMAL + "---\nname: y\n",
            "`config` must be valid YAML. Received: FILE: line 4, column 1:",
        ),
        (
            "- name\n- x\n",
            "FILE: the configuration must be a mapping of keys to values. Received: [",
        ),
        (
            "name:x\ndata:y\n",
            "FILE: the configuration must be a mapping of keys to values. Received: 'n",
        ),
        ("", "FILE: `name` is missing and has no default."),
        ("# nothing\n", "FILE: `name` is missing and has no default."),
        ("? [a]\n: b\n", "`config` must have keys that are text. Received: FILE, line 1: a list"),
        (
            "a: " + "[" * 5000,
            "`config` must be valid YAML. Received: FILE: line 1, column 67: it is nested more",
        ),
        (
            "a: " + "9" * 5000,
            "`config` must have numbers of at most 400 digits. Received: FILE, line",
        ),
        (
            "a: 'x",
            "`config` must be valid YAML. Received: FILE: line 1, column 6: while scanning a",
        ),
        (
            "%YAML 3.0\n---\na: 1",
            "`config` must be valid YAML. Received: FILE: line 1, column 1: f",
        ),
        ("a: \x07", "`config` must be valid YAML. Received: FILE: "),
    ],
)
def test_file_that_is_no_configuration_is_one_line(tmp_path, content, message):
    assert refusal(tmp_path, content).startswith(message)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ('{"a": [], "a": ["x"]}', "(`a` appears more than once)."),
        ("[" * 100_000, "`features` must be JSON. Received: "),
        ("@FILE", "`features` must name a file in UTF-8 after @. Received: @"),
    ],
)
def test_json_of_the_command_line_is_read_as_strictly(tmp_path, capsys, features, said):
    path = write(tmp_path, '{"a": "x"}'.encode("utf-16"))

    status = main(["query", "--server=localhost:1", "--features", features.replace("FILE", path)])

    assert status == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("tagtower query: `features` must ") and said in line

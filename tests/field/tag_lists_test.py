"""Tags as lists in texts: with commas, with semicolons, in JSON, as Python and numpy print."""

import csv
import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet
import pytest

from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.runs.tag_file import read_tag_file
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.arrow_files import read_table
from tfx_pipeline.tables.cells import as_lists, as_number_lists
from tfx_pipeline.tables.inputs import find_tables
from tfx_pipeline.tables.list_notation import JSON, PYTHON, parse_list
from tfx_pipeline.tables.tag_vectors import read_tag_vectors
from tfx_pipeline.tables.validate import validate_items
from trainer.contract.features import Domain, FeatureSpec
from trainer.contract.tag_normalization import TagNormalization

SPEC = FeatureSpec(domains=(Domain("clicked_tags"),))


def write(path, texts):
    """Writes the items `i1`, `i2`, ... with their tags as one text each, in the suffix's format."""
    rows = [
        {"item_id": f"i{number}", "tags": text, "category": "m"}
        for number, text in enumerate(texts, start=1)
    ]
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def data_config(folder, items, **keys):
    """Returns the configuration of a log whose items are at a path."""
    (folder / "interactions.csv").write_text("user_id,item_id,timestamp,clicked\nu,i1,100,1\n")
    (folder / "users.csv").write_text("user_id\nu\n")
    return DataConfig(str(folder / "interactions.csv"), items, str(folder / "users.csv"), **keys)


def check(data):
    """Runs a run's first checks; returns the one line of a refusal, else None."""
    try:
        find_tables(data, SPEC)
    except ValueError as error:
        return str(error)
    return None


def read(data):
    """Reads items; returns tags by item, and reasons by item of the rows set aside."""
    tags, reasons = {}, {}
    for batch in read_table(data.items, schema.ITEMS):
        found = validate_items(batch, list_separator=data.list_notation)
        tags |= {row["item_id"]: row["tags"] for row in found.rows.to_pylist()}
        for row in found.rejected.to_pylist():
            reasons[json.loads(row["values"])["item_id"]] = row["reason"]
    return tags, reasons


SUFFIXES = (".csv", ".jsonl", ".parquet")

# Texts that are lists in a notation -> what it is, what to set, and the text that is shown.
REFUSED = {
    "commas": (["topic 8, topic 36", "a, b, c", "d"], "with commas", '","', "a, b, c"),
    "commas without blanks": (["x,y", "y,z"], "with commas", '","', "x,y"),
    "semicolons": (["a;b", "b; c", "d"], "with semicolons", '";"', "a;b"),
    "semicolons between titles with commas": (
        ["Godfather, The; Crime, Drama", "Sting, The; Crime, Drama"],
        "with semicolons",
        '";"',
        "Godfather, The; Crime, Drama",
    ),
    "tabs": (["a\tb", "b\tc"], "with tabs", '"\\t"', "a\tb"),
    "JSON": (['["a", "b"]', '["c"]', "[]"], "in JSON", '"json"', '["a", "b"]'),
    "JSON with bars inside": (['["a|b", "c"]'], "in JSON", '"json"', '["a|b", "c"]'),
    "Python": (
        ["['b', 'c']", "[\"it's\", 'x']", "['a']"],
        "as Python prints them",
        '"python"',
        "[\"it's\", 'x']",
    ),
    "numpy": (["['b' 'c']", "['a']"], "as Python prints them", '"python"', "['a']"),
    "a few, of what are tags elsewhere": (
        [*["Crime", "Drama", "Comedy"] * 3, "Drama, crime", "Comedy,Drama"],
        "with commas",
        '","',
        "Comedy,Drama",
    ),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", REFUSED)
def test_lists_that_nobody_declared_are_refused_with_the_key_to_set(tmp_path, kind, suffix):
    texts, said, value, shown = REFUSED[kind]
    path = write(tmp_path / f"items{suffix}", texts)
    num_lists = sum(any(mark in text for mark in ",;[\t") for text in texts)

    message = check(data_config(tmp_path, path))

    assert message == (
        "`data.list_separator` must say how the tags of an item are written. Received: none, and "
        f"{num_lists} of {len(texts)} texts look like lists, such as {shown!r} in {path} ({said}). "
        f'Set it to {value}, or to "|" if each text is one tag.'
    )
    assert "\n" not in message
    # The proposed setting reads them.
    declared = data_config(tmp_path, path, list_separator=json.loads(value))
    assert check(declared) is None
    tags, reasons = read(declared)
    assert set(reasons.values()) <= {"no_tags"}
    assert not any(mark in tag for each in tags.values() for tag in each for mark in ';["\t')
    # The other proposed setting reads them as well.
    as_they_are = data_config(tmp_path, path, list_separator="|")
    assert check(as_they_are) is None


# Texts that must not be taken for lists.
TAKEN = {
    "one tag each": (["jazz", "new age", "folk"], ["jazz"]),
    "bars": (["a|b", "b|c", "d"], ["a", "b"]),
    "bars with commas inside": (["Rock, hard|Pop", "Pop|Soul"], ["rock, hard", "pop"]),
    "a tag with a comma now and then": (["Pop, Rock & Soul", *["jazz"] * 19], ["pop, rock & soul"]),
    # A third of them, whose parts are no tags.
    "titles": (
        ["Godfather, The", "Sting, The", "Heat", "Alien", "Psycho", "Jaws"],
        ["godfather, the"],
    ),
    "a comma at the end": (["jazz,", "folk;", ", x"], ["jazz,"]),
    "brackets around a word": (["[jazz]", "(folk)", "{x}"], ["[jazz]"]),
    "most with bars": (["a|b", "c|d", "e, f"], ["a", "b"]),
    "blank": (["jazz", "", "  ", ""], ["jazz"]),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", TAKEN)
def test_what_may_be_tags_is_taken_as_it_was(tmp_path, kind, suffix):
    texts, first = TAKEN[kind]
    data = data_config(tmp_path, write(tmp_path / f"items{suffix}", texts))

    assert check(data) is None
    assert read(data)[0]["i1"] == first


def test_lists_are_no_texts(tmp_path):
    """Values of true lists are single tags, whatever they contain."""
    rows = [{"item_id": "i1", "tags": ["a, b", "c, d"], "category": ""}]
    (tmp_path / "items.jsonl").write_text(json.dumps(rows[0]) + "\n")
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")

    for suffix in (".jsonl", ".parquet"):
        data = data_config(tmp_path, str(tmp_path / f"items{suffix}"))
        assert check(data) is None
        assert read(data) == ({"i1": ["a, b", "c, d"]}, {})


@pytest.mark.parametrize("kind", ["text", "binary", "dictionary", "large_string"])
def test_texts_of_any_type_are_looked_at(tmp_path, kind):
    tags = pa.array(["a, b", "b, c"])
    types = {"text": pa.string(), "binary": pa.binary(), "large_string": pa.large_string()}
    tags = tags.cast(types[kind]) if kind in types else tags.dictionary_encode()
    table = pa.table({"item_id": ["i1", "i2"], "tags": tags, "category": ["", ""]})
    pyarrow.parquet.write_table(table, tmp_path / "items.parquet")

    message = check(data_config(tmp_path, str(tmp_path / "items.parquet")))

    assert "2 of 2 texts look like lists, such as 'a, b' in" in message


@pytest.mark.parametrize("share", [6, 14])
def test_answer_depends_on_the_table_and_not_on_order_or_files(tmp_path, share):
    """Lists may stand first, last or in another file: the whole table is counted."""
    texts = [f"topic {i}, theme {i}" for i in range(share)] + [
        f"tag {i}" for i in range(20 - share)
    ]
    rng = random.Random(1)
    found = set()
    for attempt in range(6):
        folder = tmp_path / str(attempt)
        (folder / "items").mkdir(parents=True)
        order = texts if attempt == 0 else texts[::-1] if attempt == 1 else rng.sample(texts, 20)
        cut = rng.randrange(1, 19)
        write(folder / "items" / "a.csv", order[:cut])
        write(folder / "items" / f"b{SUFFIXES[attempt % 3]}", order[cut:])
        message = check(data_config(folder, str(folder / "items")))
        found.add(message and message.partition(f" in {folder}")[0])
    refused = (
        "`data.list_separator` must say how the tags of an item are written. Received: none, and "
        "14 of 20 texts look like lists, such as 'topic 0, theme 0'"
    )
    assert found == {refused if share == 14 else None}


def test_changed_table_is_looked_at_again(tmp_path):
    path = write(tmp_path / "items.csv", ["a, b", "b, c"])
    data = data_config(tmp_path, path)
    assert "list_separator" in check(data)

    write(tmp_path / "items.csv", ["a|b", "b|c and more"])

    assert check(data) is None


# Declared notation -> text -> tags; None: malformed.
DECLARED = {
    ",": {"topic 8, topic 36": ["topic 8", "topic 36"], "a,,b, ": ["a", "b"], "a|b": ["a|b"]},
    "; ": {"a; b": ["a", "b"], "a;b": ["a;b"]},
    "|": {'["a", "b"]': ['["a", "b"]'], "a, b": ["a, b"], "a|B |a": ["a", "b"]},
    JSON: {
        '["Jazz", "new age", "jazz "]': ["jazz", "new age"],
        ' [ "a|b" , "c, d" ] ': ["a|b", "c, d"],
        "[1, 2.0, 2.5, true, null, NaN]": ["1", "2", "2.5", "true"],
        '["caf\\u00e9", "a\\nb"]': ["caf\u00e9", "a b"],
        "[]": [],
        "null": [],
        "": [],
        "['a']": None,
        '["a"': None,
        '["a"] ["b"]': None,
        '{"a": 1}': None,
        '"a"': None,
        "jazz": None,
        '["a", ["b"]]': None,
        '[{"name": "a"}]': None,
        "[Infinity]": None,
        '["\\ud800"]': None,
        "[" * 3000: None,
    },
    PYTHON: {
        "['Jazz', 'new age', 'jazz ']": ["jazz", "new age"],
        "['Jazz' 'new age'\n 'folk']": ["jazz", "new age", "folk"],
        "[\"it's\", 'a, b', 'x\\'y']": ["it's", "a, b", "x'y"],
        '["a", "b"]': ["a", "b"],
        "('a',)": ["a"],
        "{'a'}": ["a"],
        "[1, 2.0, True, None, nan]": ["1", "2", "true"],
        "[b'a', u'b']": ["a", "b"],
        "[]": [],
        "None": [],
        "[a, b]": None,
        "['a''b']": None,
        "['a',, 'b']": None,
        "['a', ['b']]": None,
        "['a', ...]": None,
        "['a'": None,
        "__import__('os')": None,
        "jazz": None,
    },
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("notation", DECLARED)
def test_declared_notation_is_taken_at_its_word(tmp_path, notation, suffix):
    cells = DECLARED[notation]
    path = write(tmp_path / f"items{suffix}", list(cells))
    data = data_config(tmp_path, path, list_separator=notation)

    assert check(data) is None
    tags, reasons = read(data)

    for number, expected in enumerate(cells.values(), start=1):
        item = f"i{number}"
        if expected:
            assert tags.pop(item) == expected
        else:
            assert reasons.pop(item) == ("malformed_list" if expected is None else "no_tags")
    assert not tags and not reasons


@pytest.mark.parametrize(("text", "neighbour"), [("['a', 'b']", ["c"]), ("[", ["c"])])
def test_text_beside_lists_means_what_it_means_alone(tmp_path, text, neighbour):
    rows = [{"item_id": "i1", "tags": text}, {"item_id": "i2", "tags": neighbour}]
    lines = [json.dumps(row | {"category": ""}) + "\n" for row in rows]
    found = []
    for name, content in (("alone", lines[:1]), ("beside", lines)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(content))
        data = data_config(tmp_path, str(path), list_separator=PYTHON)
        tags, reasons = read(data)
        found.append((tags.get("i1"), reasons.get("i1")))

    assert found[0] == found[1] == ((["a", "b"], None) if "a" in text else (None, "malformed_list"))


@pytest.mark.parametrize("text", ["1|2.5", "[1, 2.5]", "[1. 2.5]", "(1, 2.5)", ' ["1", 2.5] '])
@pytest.mark.parametrize("notation", ["|", None])
def test_vectors_in_brackets_are_lists_whatever_separates_tags(tmp_path, text, notation):
    data = DataConfig("i", "t", "u", list_separator=notation)
    for name, other in (("vectors", "3|4"), ("same", "[3, 4]")):
        path = tmp_path / f"{name}.csv"
        path.write_text(f'tag,vector\na,"{text.replace(chr(34), chr(34) * 2)}"\nb,"{other}"\n')

        tags, vectors = read_tag_vectors(data, str(path))
        rows = read_tag_file(str(path), data).rows

        assert (tags, vectors.tolist()) == (["a", "b"], [[1, 2.5], [3, 4]])
        assert [row.vector.tolist() for row in rows] == [[1, 2.5], [3, 4]]


@pytest.mark.parametrize("text", ["[1, x]", "[1, 2", "[[1, 2]]", "[1, null]", "1, 2", "nan|1"])
def test_text_that_is_no_vector_is_refused(tmp_path, text):
    path = tmp_path / "vectors.csv"
    path.write_text(f'tag,vector\na,"{text}"\n')
    data = DataConfig("i", "t", "u")

    with pytest.raises(ValueError, match="Row 1 of .* does not"):
        read_tag_vectors(data, str(path))
    assert [row["reason"] for row in read_tag_file(str(path), data).rejected] == ["bad_vector"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "|"), ("list_separator: json", "json"), ("list_separator: ', '", ", ")],
)
def test_configuration_declares_it(tmp_path, text, expected):
    path = tmp_path / "config.yaml"
    path.write_text(
        f"name: n\nfeatures: {{domains: [{{name: c}}]}}\n"
        f"data:\n  interactions: i\n  items: t\n  users: u\n  {text}\n"
    )

    assert load_config(str(path)).data.list_notation == expected


def test_empty_separator_is_refused():
    with pytest.raises(ValueError, match="`list_separator` must not be empty"):
        DataConfig("i", "t", "u", list_separator="")


@pytest.mark.parametrize(
    ("notation", "text"), [(each, text) for each in (JSON, PYTHON) for text in DECLARED[each]]
)
def test_parsed_values_are_texts(notation, text):
    values = parse_list(text, notation)

    assert values is None or all(value is None or isinstance(value, str) for value in values)


@pytest.mark.parametrize("text", ["None", "nan", "NaN", "<NA>", "", " "])
def test_missing_list_in_python_s_notation_has_no_value(text):
    assert parse_list(text, PYTHON) == []


def test_number_has_one_spelling_in_a_text_and_in_a_list(tmp_path):
    cells = pa.array([[1e16, 2.0, 1.5]])
    values, _, _ = as_lists(cells, separator=PYTHON, normalization=TagNormalization())

    assert parse_list("[1e16, 2.0, 1.5]", PYTHON) == values.to_pylist()[0]
    assert parse_list("[1#x]", PYTHON) is None  # no comment, as nothing else may stand there


def test_binary_text_of_numbers_is_a_vector():
    numbers, is_wrong = as_number_lists(pa.array([b"1|2", b"[1, 2]"]), separator="|")

    assert numbers.to_pylist() == [[1.0, 2.0], [1.0, 2.0]]
    assert is_wrong.tolist() == [False, False]


def test_file_that_breaks_off_is_one_line_before_its_lists_are_looked_at(tmp_path):
    line = json.dumps({"item_id": "i", "tags": "a|b"}).encode() + b"\n"
    path = tmp_path / "items.jsonl.gz"
    path.write_bytes(gzip.compress(random.Random(0).randbytes(1 << 17).hex().encode() + b"\n"))
    whole = gzip.compress(line * 3 + path.read_bytes())
    path.write_bytes(whole[:-100])

    refusal = check(data_config(tmp_path, str(path)))

    assert refusal is not None
    assert "\n" not in refusal
    assert f"{path} cannot be read" in refusal

import json

import pytest

from tfx_pipeline.terminal.report_file import json_rows, write_report


def test_figures_replace_an_earlier_file_and_leave_nothing_beside_it(tmp_path):
    path = tmp_path / "below" / "a.json"
    write_report({"a.b": 1, "a.c": None}, path)
    write_report({"a.b": 2.5, "a.text": "x"}, path)

    assert json.loads(path.read_text()) == {"a.b": 2.5, "a.text": "x"}
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]


def test_figures_that_cannot_be_written_leave_the_earlier_file(tmp_path):
    path = tmp_path / "a.json"
    write_report({"a.b": 1}, path)
    # NaN is not JSON: an undefined figure is None.
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report({"a.b": float("nan")}, path)

    assert json.loads(path.read_text()) == {"a.b": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_rows_are_compact_json_with_a_line_for_each():
    assert json_rows([{"a": 1, "b": [None]}, {"a": "é"}]) == (
        '[\n{"a":1,"b":[null]},\n{"a":"\\u00e9"}\n]'
    )
    assert json_rows([]) == "[]"
    with pytest.raises(ValueError, match="JSON compliant"):
        json_rows([float("nan")])

"""The table of signatures is whole: every name once, every dimension and type known."""

import collections

import pytest

from tagtower_client.signature_rows import (
    DIMENSIONS,
    WITH_CLICK_LOSS,
    WITH_VECTOR_VIEW,
    Export,
    Kind,
    present,
)
from tagtower_client.signature_table import SIGNATURES, signatures_of
from trainer.contract import signatures as s

DTYPES = {"string", "float32", "float64", "int32", "int64", "bool"}


@pytest.mark.parametrize("export", list(Export))
def test_an_export_has_no_signature_twice(export):
    counts = collections.Counter(row.name for row in SIGNATURES if export in row.exports)

    assert set(counts.values()) == {1}


@pytest.mark.parametrize(
    "signature", SIGNATURES, ids=lambda row: f"{row.exports[0].value}-{row.name}"
)
def test_every_row_has_known_types_and_dimensions_and_a_meaning(signature):
    for rows in (signature.inputs, signature.outputs):
        assert len({row.name for row in rows}) == len(rows)
        for row in rows:
            assert row.meaning and "|" not in row.meaning
            assert ("<domain>" in row.name) == (row.kind is Kind.EACH_LIST)
            if row.kind not in (Kind.EACH_FEATURE, Kind.EACH_PROFILE):
                assert row.dtype in DTYPES
                assert all(name.isdigit() or name in DIMENSIONS for name in row.shape)


def test_a_dimension_that_a_model_fixes_has_its_size_and_a_number_is_one():
    top = next(
        r for r in signatures_of(Export.SERVABLE)[s.EXPLAIN].outputs if r.name == s.TOP_VALUES
    )
    queries = signatures_of(Export.SERVABLE)[s.RETRIEVE_BY_EMBEDDING].inputs[0]

    assert top.sizes({"d": 32}) == [None, 10]
    assert queries.sizes({"d": 32}) == [None, 32]
    assert queries.sizes({}) == [None, None]


def test_own_inputs_are_those_that_do_not_depend_on_the_features():
    served = signatures_of(Export.SERVABLE)

    assert [row.name for row in served[s.RETRIEVE].own_inputs] == []
    assert [row.name for row in served[s.RETRIEVE_FILTERED].own_inputs] == [
        "exclude_tags",
        "allow_categories",
    ]


def test_rows_with_a_condition_are_there_where_the_model_meets_it():
    inputs = signatures_of(Export.TOWERS)[s.EMBED_TAGS].inputs

    assert [row.name for row in present(inputs, ())] == ["tags", "tag_categories"]
    assert [row.name for row in present(inputs, {WITH_CLICK_LOSS})] == ["tags", "tag_categories"]
    assert [row.name for row in present(inputs, {WITH_VECTOR_VIEW})] == [
        "tags",
        "tag_categories",
        "tag_vectors",
    ]

"""The tables of docs/serving-signatures.md are what the table of signatures says."""

import pytest

from tagtower_client.signature_rows import (
    WITH_CLICK_LOSS,
    Export,
    Kind,
    SignatureRow,
    TensorRow,
)
from tagtower_client.signature_table import SIGNATURES
from tfx_pipeline.reference.signatures import PAGE, servable_tables, signatures_reference

USERS = TensorRow("users", "", (), "what is known", Kind.EACH_FEATURE)
ASK = SignatureRow(
    "ask",
    (Export.SERVABLE,),
    "answers",
    (USERS, TensorRow("question", "string", ("batch",), "what is asked")),
    (
        TensorRow("first", "float32", ("batch", "10"), "the first"),
        TensorRow("second", "float32", ("batch", "10"), "the second"),
        TensorRow("clicks", "float32", ("batch", "10"), "the third", only=WITH_CLICK_LOSS),
        TensorRow("of_<domain>", "float32", ("batch", "n"), "each", Kind.EACH_LIST),
    ),
)


def test_page_equals_the_table_of_signatures():
    page = PAGE.read_text(encoding="utf-8")

    assert page == signatures_reference(page), "run `make docs`"


def test_every_signature_of_the_table_has_a_row_on_the_page():
    page = PAGE.read_text(encoding="utf-8")

    for row in SIGNATURES:
        assert f"| `{row.name}` | {row.meaning}" in page


def test_what_is_generated_replaces_what_was_there_and_nothing_else():
    page = PAGE.read_text(encoding="utf-8")
    changed = page.replace("| the tags that interest users most |", "| something else |", 1)

    assert changed != page
    assert signatures_reference(changed) == page
    with_words = page.replace("## Examples of requests", "## Other examples")
    assert signatures_reference(with_words) == with_words


def test_tables_give_tensors_by_type_and_shape_with_their_conditions():
    lines = "\n".join(servable_tables([ASK])).splitlines()

    assert (
        "| `ask` | answers | users; `question` string [batch] | `first`, `second` float32 "
        "[batch, 10]; `clicks` float32 [batch, 10], with a click loss; `of_<domain>` float32 "
        "[batch, n] for each list |"
    ) in lines
    assert "| batch | the users of a request |" in lines
    assert not any(line.startswith("| k |") for line in lines)
    assert "| users | `ask` | what is known |" in lines
    assert "| `clicks` | `ask` | the third |" in lines


def test_a_page_without_its_comments_is_refused():
    with pytest.raises(ValueError, match="must have the comments around the part `servable`"):
        signatures_reference("# A page\n")

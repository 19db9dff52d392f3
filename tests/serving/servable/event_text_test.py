"""Texts in the graph are those of the tables, for every character."""

import itertools
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import tensorflow as tf

from serving.servable.event_text import normalized_tags, one_line, stripped
from tagtower_client.line_breaks import one_line as python_one_line
from trainer.contract.tag_normalization import TagNormalization

ROOT = Path(__file__).parents[3]
# All characters that UTF-8 has, but for NUL.
CHARACTERS = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
NORMALIZATIONS = [
    TagNormalization(trim, lowercase, nfc)
    for trim, lowercase, nfc in itertools.product((False, True), repeat=3)
]


def tensor(texts):
    return tf.constant([text.encode() for text in texts], tf.string, [len(texts)])


def texts_of(found):
    return [text.decode() for text in found.numpy()]


@pytest.mark.parametrize("form", ["{}", "A{0} {0}Σ", "{0}B{0}"])
def test_tags_are_normalised_as_in_the_tables_whatever_character_they_have(form):
    tags = [form.format(character) for character in CHARACTERS]
    # What Python would compose is the caller's part, see the test of composed text.
    normalization = TagNormalization(nfc=False)

    assert texts_of(normalized_tags(tensor(tags), normalization)) == normalization.apply(tags)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_composed_tags_need_nothing_more_with_any_normalisation(normalization):
    texts = [" Café\u3000", "\r\nRock \n\n Roll\n", "ΟΔΥΣΣΕΥΣ", "İzmir", "ﬀ", "", " \n", "x\ty"]
    tags = [unicodedata.normalize("NFC", text) for text in texts]

    assert texts_of(normalized_tags(tensor(tags), normalization)) == normalization.apply(tags)


def test_a_tag_that_is_not_composed_stays_so():
    # The part of normalisation that docs/client.md asks of the caller.
    decomposed = unicodedata.normalize("NFD", "Café")

    assert TagNormalization().apply([decomposed]) == ["café"]
    assert texts_of(normalized_tags(tensor([decomposed]), TagNormalization())) == ["cafe\u0301"]


def test_capitals_are_lowered_alike_in_any_locale():
    script = (
        "import trainer, tensorflow as tf\n"
        "from serving.servable.event_text import normalized_tags\n"
        "from trainer.contract.tag_normalization import TagNormalization\n"
        "tags = normalized_tags(tf.constant(['INDIE', '\u00c9I']), TagNormalization()).numpy()\n"
        "assert [tag.decode() for tag in tags] == ['indie', '\u00e9i'], tags"
    )
    environment = {**os.environ, "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert finished.returncode == 0, finished.stderr


def test_bytes_that_are_no_text_are_no_error():
    found = normalized_tags(tf.constant([b" \xff\xfe ", b"ok"]), TagNormalization()).numpy()

    assert found[1] == b"ok"


def test_line_breaks_and_ends_are_those_of_python():
    texts = ["", "a", "\na\r\n", "a\n\nb\rc", " a ", "\u2028a\x1c", "\r", "a\x0bb"]

    assert texts_of(one_line(tensor(texts))) == [python_one_line(text) for text in texts]
    assert texts_of(stripped(tensor(texts))) == [text.strip() for text in texts]

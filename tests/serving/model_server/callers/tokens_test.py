"""The file of tokens: its content, its changes, and its mistakes."""

import logging

import pytest

from serving.model_server.callers import tokens
from serving.model_server.callers.tokens import TokenFile

GOOD, OTHER = "a" * 16, "B-._~+/9" * 4 + "=="


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "_LOOK_S", 0.0)
    path = tmp_path / "tokens"
    path.write_text(f"# of the front end\n{GOOD}\n\n{OTHER}\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"Bearer {GOOD}", True),
        (f"bearer  {OTHER} ", True),
        (f"Bearer {GOOD}a", False),
        (f"Bearer {GOOD[:-1]}", False),
        (f"Basic {GOOD}", False),
        (GOOD, False),
        ("Bearer ", False),
        ("Bearer", False),
        ("", False),
        ("Bearer # of the front end", False),
        ("Bearer \udcff\xff", False),
    ],
)
def test_header_must_have_one_of_the_tokens(path, header, expected):
    assert TokenFile(str(path)).knows(header) is expected


@pytest.mark.parametrize(
    "content", ["", "\n\n", "# only this\n", "short\n", "white space is none\n"]
)
def test_file_without_a_token_is_one_line_that_does_not_show_it(path, content):
    path.write_text(content)
    with pytest.raises(ValueError, match="`bearer_token_file` must") as caught:
        TokenFile(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "short" not in str(caught.value)


def test_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing(path, caplog):
    caplog.set_level(logging.INFO, "tagtower.model_server")
    known = TokenFile(str(path))
    assert known.knows(f"Bearer {GOOD}")
    path.write_text("c" * 20)
    assert known.knows("Bearer " + "c" * 20)
    assert not known.knows(f"Bearer {GOOD}")
    path.write_text("")
    for _ in range(3):
        assert known.knows("Bearer " + "c" * 20)
    path.unlink()
    for _ in range(3):
        assert known.knows("Bearer " + "c" * 20)
    texts = [record.getMessage() for record in caplog.records]
    assert [text.partition(":")[0] for text in texts] == [
        f"Read {path} again",
        "The tokens stay as they were",
        "The tokens stay as they were",
    ]


def test_file_that_others_may_read_is_warned_of(path, caplog):
    path.chmod(0o644)
    TokenFile(str(path))
    assert "(mode 644): chmod 600." in caplog.text

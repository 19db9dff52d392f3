"""The lock of a file: one holder, whose name the others read."""

import pytest

from trainer.contract.file_lock import locked_file, take_lock


def test_second_holder_is_refused_with_what_the_first_one_wrote(tmp_path):
    path = tmp_path / "lock"
    path.write_text("what an earlier holder with a longer name left")
    with locked_file(str(path), ValueError, "first\n"):
        with pytest.raises(ValueError, match="^first$"):
            with locked_file(str(path), ValueError, "second"):
                pass
        assert path.read_text() == "first\n"

    with locked_file(str(path), ValueError, "second"):
        assert path.read_text() == "second"


def test_error_of_who_holds_the_lock_is_not_taken_for_a_refusal(tmp_path):
    with pytest.raises(KeyError, match="theirs"):
        with locked_file(str(tmp_path / "lock"), lambda holder: AssertionError(holder)):
            raise KeyError("theirs")


def test_lock_is_free_once_its_file_is_closed(tmp_path):
    with open(tmp_path / "lock", "w") as first, open(tmp_path / "lock") as second:
        assert take_lock(first)
        assert not take_lock(second)
        first.close()
        assert take_lock(second)

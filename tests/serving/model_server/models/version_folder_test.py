import pytest

from serving.model_server.models.version_folder import list_versions


def test_numbered_children_are_versions_and_others_are_ignored(tmp_path):
    for name in ("1", "00000007", "20240101", "v3", "3.tmp", ".4", "-5", "tmp-6", str(2**63)):
        (tmp_path / name).mkdir()

    assert list_versions(str(tmp_path)) == {
        1: str(tmp_path / "1"),
        7: str(tmp_path / "00000007"),
        20240101: str(tmp_path / "20240101"),
    }


def test_two_names_of_one_number_warn_and_one_counts(tmp_path, caplog):
    for name in ("7", "007"):
        (tmp_path / name).mkdir()

    assert list_versions(str(tmp_path)) == {7: str(tmp_path / "7")}
    assert "Version 7 has two folders" in caplog.text


def test_absent_base_path_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        list_versions(str(tmp_path / "absent"))

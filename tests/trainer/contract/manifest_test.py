"""Every kind of damage is found, by the file's name; without a manifest nothing is checked."""

import json
import os
import shutil
import tracemalloc

import pytest

from tests.ram_file_system import mend_ram
from trainer.contract import file_system as fs
from trainer.contract.manifest import (
    DamagedFolderError,
    add_to_manifest,
    check_manifest,
    write_manifest,
)
from trainer.contract.whole_files import unfinished

FILES = {"saved_model.pb": b"graph", "variables/data": bytes(range(256)) * 9, "empty": b""}


def fill(folder: str, files=FILES) -> str:
    for name, content in files.items():
        fs.make_folders(os.path.dirname(os.path.join(folder, name)))
        with fs.open_file(os.path.join(folder, name), "wb") as file:
            file.write(content)
    return folder


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path, monkeypatch):
    if request.param == "local":
        yield fill(str(tmp_path / "folder"))
        return
    mend_ram(monkeypatch)
    yield fill("ram://manifest_test/folder")
    fs.remove_folder("ram://manifest_test")


def rewrite(folder: str, name: str, content: bytes) -> None:
    if fs.exists(os.path.join(folder, name)):
        fs.remove_file(os.path.join(folder, name))  # to a file of ram:// it would be appended
    fill(folder, {name: content})


def test_what_was_written_is_sound_wherever_it_is_copied(folder, tmp_path):
    write_manifest(folder)
    assert check_manifest(folder)
    fs.copy_folder(folder, str(tmp_path / "copy"))
    assert check_manifest(str(tmp_path / "copy"))
    with fs.open_file(os.path.join(folder, "manifest.json")) as file:
        content = json.load(file)
    assert (content["form"], content["algorithm"]) == (1, "sha256")
    assert list(content["files"]) == sorted(FILES)
    assert content["files"]["empty"]["size"] == 0
    write_manifest(folder)  # once more: it does not list itself
    assert check_manifest(folder)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda f: fs.remove_file(f"{f}/variables/data"), "`variables/data` is missing."),
        (lambda f: rewrite(f, "variables/more", b"x"), "`variables/more` is not in the manifest."),
        (
            lambda f: rewrite(f, "saved_model.pb", b"gra"),
            "`saved_model.pb` has 3 bytes in place of 5",
        ),
        (
            lambda f: rewrite(f, "saved_model.pb", b"grapH"),
            "`saved_model.pb` has changed since it was written",
        ),
        (lambda f: rewrite(f, "empty", b"x"), "`empty` has 1 bytes in place of 0."),
        (
            lambda f: rewrite(f, "manifest.json", b""),
            "`manifest.json` is truncated or not a manifest.",
        ),
        (lambda f: rewrite(f, "manifest.json", b'{"form": 1'), "`manifest.json` is truncated"),
        (lambda f: rewrite(f, "manifest.json", b"[[]]"), "`manifest.json` is truncated"),
        (
            lambda f: rewrite(f, "manifest.json", b'{"form": 2, "algorithm": "sha256"}'),
            "`manifest.json` is from another release.",
        ),
    ],
)
def test_damage_is_named(folder, damage, fault):
    write_manifest(folder)
    damage(folder)
    with pytest.raises(DamagedFolderError) as caught:
        check_manifest(folder, remedy="Do this.")
    assert str(caught.value).startswith(f"{folder} is damaged: {fault}")
    assert str(caught.value).endswith(". Do this.") and "\n" not in str(caught.value)
    assert f"`{caught.value.file}`" in fault


def test_folder_without_a_manifest_is_taken(folder):
    assert not check_manifest(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside"])
def test_manifest_reads_nothing_outside_of_its_folder(tmp_path, name):
    folder = fill(str(tmp_path / "folder"))
    files = {name: {"size": 1, "digest": "0"}}
    content = {"form": 1, "algorithm": "sha256", "files": files}
    rewrite(folder, "manifest.json", json.dumps(content).encode())
    with pytest.raises(DamagedFolderError, match="`manifest.json` is truncated or not a manifest"):
        check_manifest(folder)


def test_what_is_no_file_is_missing(tmp_path):
    folder = fill(str(tmp_path / "folder"))
    write_manifest(folder)
    os.remove(f"{folder}/empty")
    os.mkfifo(f"{folder}/empty")  # to open it would wait for ever
    with pytest.raises(DamagedFolderError, match="`empty` is missing"):
        check_manifest(folder)


def test_manifest_beside_a_folder_holds_folders_with_manifests_of_their_own(tmp_path):
    folder = str(tmp_path / "7")
    inner = fill(f"{folder}/Format-Serving")
    write_manifest(inner)
    fill(folder, {"index.json": b"{}"})
    beside = f"{folder}.manifest.json"
    write_manifest(folder, beside)

    assert check_manifest(folder, beside)
    with open(beside) as file:
        assert list(json.load(file)["files"]) == ["Format-Serving/manifest.json", "index.json"]
    assert sorted(os.listdir(folder)) == ["Format-Serving", "index.json"]
    rewrite(inner, "saved_model.pb", b"grapH")
    with pytest.raises(DamagedFolderError, match="Format-Serving is damaged: `saved_model.pb`"):
        check_manifest(folder, beside)
    shutil.rmtree(inner)
    with pytest.raises(DamagedFolderError, match="`Format-Serving/manifest.json` is missing"):
        check_manifest(folder, beside)


def test_file_written_later_is_taken_in_and_hides_no_damage(tmp_path):
    folder = fill(str(tmp_path / "folder"))
    write_manifest(folder)
    rewrite(folder, "version.json", b"{}")
    add_to_manifest(folder, ["version.json"])
    assert check_manifest(folder)
    rewrite(folder, "saved_model.pb", b"grapH")
    rewrite(folder, "version.json", b"{ }")
    add_to_manifest(folder, ["version.json"])
    with pytest.raises(DamagedFolderError, match="saved_model.pb"):
        check_manifest(folder)


def test_unfinished_manifest_of_a_killed_writer_is_no_damage(folder):
    write_manifest(folder)
    rewrite(folder, os.path.basename(unfinished("manifest.json")), b"{")
    assert check_manifest(folder)


@pytest.mark.parametrize("name", [".nfs00000001", "variables/.3.swp", ".snapshot/data"])
def test_hidden_file_that_came_later_is_no_damage(folder, name):
    write_manifest(folder)
    rewrite(folder, name, b"x")
    assert check_manifest(folder)


def test_hidden_file_of_the_manifest_is_held(folder):
    rewrite(folder, ".needed", b"x")
    write_manifest(folder)
    rewrite(folder, ".needed", b"y")
    with pytest.raises(DamagedFolderError, match="`.needed` has changed since it was written"):
        check_manifest(folder)
    fs.remove_file(os.path.join(folder, ".needed"))
    with pytest.raises(DamagedFolderError, match="`.needed` is missing"):
        check_manifest(folder)


def test_hidden_file_that_is_read_as_examples_is_damage(folder):
    write_manifest(folder)
    rewrite(folder, "Split-train/.nfs00000001", b"x")
    with pytest.raises(DamagedFolderError, match="`Split-train/.nfs00000001` is not in"):
        check_manifest(folder)


def test_file_that_came_later_is_to_be_removed(folder):
    write_manifest(folder)
    rewrite(folder, "more", b"x")
    with pytest.raises(DamagedFolderError, match="Remove that file if nothing needs it, or have"):
        check_manifest(folder)
    with pytest.raises(DamagedFolderError, match=r"Remove that file if nothing needs it\. Do\."):
        check_manifest(folder, remedy="Do.")


def test_only_folders_that_are_asked_for_are_compared(folder):
    write_manifest(folder)
    rewrite(folder, "saved_model.pb", b"grapH")
    rewrite(folder, "more", b"x")
    assert check_manifest(folder, only=["variables"])
    rewrite(folder, "variables/more", b"x")
    with pytest.raises(DamagedFolderError, match="`variables/more` is not in the manifest"):
        check_manifest(folder, only=["variables"])
    fs.remove_file(os.path.join(folder, "variables/more"))
    fs.remove_file(os.path.join(folder, "variables/data"))
    with pytest.raises(DamagedFolderError, match="`variables/data` is missing"):
        check_manifest(folder, only=["variables"])


def test_large_files_are_read_in_blocks(tmp_path):
    (tmp_path / "folder").mkdir()
    for i in range(8):
        with open(tmp_path / "folder" / str(i), "wb") as file:
            file.truncate(64 << 20)  # a hole
    write_manifest(str(tmp_path / "folder"))
    tracemalloc.start()
    try:
        assert check_manifest(str(tmp_path / "folder"))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_caller_can_end_a_check(tmp_path):
    folder = fill(str(tmp_path / "folder"))
    write_manifest(folder)

    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        check_manifest(folder, after_file=stop)


def test_manifest_beside_a_remote_folder(monkeypatch):
    mend_ram(monkeypatch)
    root = "ram://manifest_test_beside"
    folder = fill(f"{root}/model/5")
    write_manifest(folder, f"{folder}.manifest.json")
    assert check_manifest(folder, f"{folder}.manifest.json")
    rewrite(folder, "saved_model.pb", b"gra")
    with pytest.raises(DamagedFolderError, match="`saved_model.pb` has 3 bytes"):
        check_manifest(folder, f"{folder}.manifest.json")
    fs.remove_folder(root)

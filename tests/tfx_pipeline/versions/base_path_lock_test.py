"""The lock of a base path on mounts and accounts that are simulated here.

Who waits for whom is tested in `tests/hostile/shared_base_path_test.py`.
"""

import errno
import fcntl
import logging
import os
import threading

import pytest

from tests.tfx_pipeline.versions.pushed_versions_test import in_place, make, withdrawn
from tfx_pipeline.cli import main
from tfx_pipeline.runs.leftovers import remove_leftovers
from tfx_pipeline.terminal.refusals import OutputInUse
from tfx_pipeline.versions import base_path_lock
from tfx_pipeline.versions.base_path_lock import LOCK_FILE, locked


@pytest.fixture
def of_another_account(tmp_path, monkeypatch):
    """Makes a base path whose lock file this account may only read."""
    with locked([str(tmp_path)]):
        pass
    opened = os.open

    def open_for_reading(path, flags, *mode):
        if os.path.basename(path) == LOCK_FILE and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, flags, *mode)

    monkeypatch.setattr(base_path_lock.os, "open", open_for_reading)
    return str(tmp_path)


def test_lock_file_of_another_account_is_locked_all_the_same(of_another_account):
    refused = []

    def push_too():
        try:
            with locked([of_another_account], patience_s=0.1):
                pass
        except OutputInUse as error:
            refused.append(str(error))

    with locked([of_another_account]):
        other = threading.Thread(target=push_too)
        other.start()
        other.join()
    assert len(refused) == 1 and "in use by process" in refused[0]


def test_base_path_where_nothing_may_be_written_is_in_no_runs_way(tmp_path, of_another_account):
    (tmp_path / "output").mkdir()
    os.remove(os.path.join(of_another_account, LOCK_FILE))
    assert remove_leftovers(str(tmp_path / "output"), [of_another_account]) == []
    with pytest.raises(PermissionError), locked([of_another_account]):
        pass


def test_lock_can_be_read_by_others_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        with locked([str(tmp_path)]):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / LOCK_FILE).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EBADF])
def test_mount_without_locks_is_a_warning(tmp_path, monkeypatch, caplog, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING), locked([str(tmp_path)]):
        pass
    (record,) = caplog.records
    assert record.getMessage().endswith("cannot be locked: push to it with one process at a time")


def test_roll_back_that_waits_is_of_what_served_when_it_was_asked_for(tmp_path, monkeypatch):
    base = tmp_path / "serving"
    make(base, 1, 2, 3)
    wait = base_path_lock.locked

    def locked_after_a_push(paths):
        make(base, 4)
        return wait(paths)

    monkeypatch.setattr(base_path_lock, "locked", locked_after_a_push)
    assert main(["rollback", "--model_base_path", str(base)]) == 0

    assert (in_place(base), withdrawn(base)) == ([1, 2], [3, 4])

"""The lock of a file: one process at a time holds it, and it is released when that process ends.

The kernel keeps it (`flock`), so nothing is left behind where a process is killed.
"""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from typing import IO, Any


def take_lock(file: IO[Any]) -> bool:
    """Takes the lock of an open file, without waiting.

    Args:
      file: Open local file; the lock is released when it is closed.

    Returns:
      Whether this process holds the lock now; False: another one does.

    Raises:
      OSError: The file cannot be locked.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_holder(file: IO[str], holder: str) -> None:
    """Writes who holds the lock into its file; only the holder may, as the others read it."""
    file.seek(0)
    file.truncate(0)
    file.write(holder)
    file.flush()


@contextlib.contextmanager
def locked_file(path: str, refusal: Callable[[str], Exception], holder: str = "") -> Iterator[None]:
    """Holds the lock of a file, which is made where it is missing.

    Args:
      path: Local path of the file.
      refusal: Function from what the lock's holder wrote into the file, "" if nothing, to the error
        that is raised where another process holds it.
      holder: Text that this process writes into the file.

    Raises:
      Exception: What `refusal` returns.
    """
    with open(path, "a+", encoding="utf-8", errors="replace") as file:
        if not take_lock(file):
            file.seek(0)
            raise refusal(file.read().strip())
        write_holder(file, holder)
        yield

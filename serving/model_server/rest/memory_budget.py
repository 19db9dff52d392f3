"""The memory budget that all running REST requests share."""

import threading


class MemoryBudget:
    """A memory budget in bytes; safe to use from several threads.

    Args:
      max_bytes: Size of the budget.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Returns the number of bytes that are taken now."""
        return self._taken

    def account(self, free_bytes: int = 0) -> "MemoryAccount":
        """Makes an empty account for one request.

        Args:
          free_bytes: Number of bytes that the account may take even if the budget is used up, so
            that large requests do not keep small ones out.
        """
        return MemoryAccount(self, free_bytes)

    def _take(self, num_bytes: int, is_free: bool) -> bool:
        with self._lock:
            if not is_free and self._taken + num_bytes > self.max_bytes:
                return False
            self._taken += num_bytes
            return True

    def _give(self, num_bytes: int) -> None:
        with self._lock:
            self._taken -= num_bytes


class MemoryAccount:
    """The bytes that one request has taken from a budget; used by one thread at a time."""

    def __init__(self, budget: MemoryBudget, free_bytes: int):
        self.budget = budget
        self._free_bytes = free_bytes
        self._num_bytes = 0

    def take(self, num_bytes: int) -> bool:
        """Takes more bytes and returns true; if the budget has too few, changes nothing."""
        is_free = self._num_bytes + num_bytes <= self._free_bytes
        if not self.budget._take(num_bytes, is_free):
            return False
        self._num_bytes += num_bytes
        return True

    def raise_to(self, num_bytes: int) -> bool:
        """Takes the bytes that are missing to a number of bytes, as `take` does."""
        missing = num_bytes - self._num_bytes
        return missing <= 0 or self.take(missing)

    def change_to(self, num_bytes: int) -> bool:
        """Takes missing bytes or gives back surplus ones, to have a number of bytes, see `take`."""
        if num_bytes >= self._num_bytes:
            return self.raise_to(num_bytes)
        self.budget._give(self._num_bytes - num_bytes)
        self._num_bytes = num_bytes
        return True

    def close(self) -> None:
        """Gives all bytes back; a second call does nothing."""
        num_bytes, self._num_bytes = self._num_bytes, 0
        self.budget._give(num_bytes)

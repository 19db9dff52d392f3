"""Memory that requests under way may take, all together."""

import threading


class MemoryBudget:
    """Counts bytes; safe to use from several threads.

    Args:
      max_bytes: How many there are.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Bytes taken now."""
        return self._taken

    def account(self, free_bytes: int = 0) -> "MemoryAccount":
        """An account of one request, with nothing in it.

        Args:
          free_bytes: What it may take even where nothing is left, so that large requests do not
            keep small ones out.
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
    """What one request has taken of a budget; used by one thread at a time."""

    def __init__(self, budget: MemoryBudget, free_bytes: int):
        self.budget = budget
        self._free_bytes = free_bytes
        self._num_bytes = 0

    def take(self, num_bytes: int) -> bool:
        """Takes more; whether there was so much left, and nothing changes where not."""
        is_free = self._num_bytes + num_bytes <= self._free_bytes
        if not self.budget._take(num_bytes, is_free):
            return False
        self._num_bytes += num_bytes
        return True

    def raise_to(self, num_bytes: int) -> bool:
        """Takes what is missing to so many bytes; as `take`."""
        missing = num_bytes - self._num_bytes
        return missing <= 0 or self.take(missing)

    def change_to(self, num_bytes: int) -> bool:
        """Takes what is missing to so many bytes, or gives back what is too many; as `take`."""
        if num_bytes >= self._num_bytes:
            return self.raise_to(num_bytes)
        self.budget._give(self._num_bytes - num_bytes)
        self._num_bytes = num_bytes
        return True

    def close(self) -> None:
        """Gives all back; a second time there is nothing."""
        num_bytes, self._num_bytes = self._num_bytes, 0
        self.budget._give(num_bytes)

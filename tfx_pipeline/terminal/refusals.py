"""Users' mistakes and other ends of a command that have an exit status of their own.

A mistake is a `ValueError` and ends with 2; these are told apart by whoever starts a command again
by itself.
"""

EXIT_NOT_PUSHED = 3
EXIT_IN_USE = 4


class NotPushed(ValueError):
    """A run ends before anything is trained, by a threshold that its data does not meet."""


class OutputInUse(ValueError):
    """Another run is under way in the output folder, or another push at the base path."""

"""Users' mistakes and other ends of a command that have their own exit status.

A mistake is a `ValueError` and ends with 2; schedulers that restart a command distinguish the
others.
"""

EXIT_NOT_PUSHED = 3
EXIT_IN_USE = 4


class NotPushed(ValueError):
    """The end of a run before training, because its data do not meet a threshold."""


class OutputInUse(ValueError):
    """The error that another run uses the output folder, or another push the base path."""

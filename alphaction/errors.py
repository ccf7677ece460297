"""Errors that are the user's to mend: a wrong path, key, annotation, video or checkpoint.

The scripts catch `UserError`, print its message as one `error: ...` line and exit with status 1, without
a traceback. Everything else is a fault of this software and keeps its traceback. The message names the
file or key, the entry, what was expected and what to do.
"""


def first_line(error: BaseException) -> str:
    """What an exception of others says, cut to what fits into a message; its class where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


class UserError(Exception):
    """A mistake in the input or the environment that the user can correct.

    Attributes:
        told_elsewhere: whether another process of the run has met the same error and tells it; None = unknown.
    """

    told_elsewhere: bool | None = None

    def __init__(self, message: str = "") -> None:
        # A DataLoader re-raises a worker's exception as `type(message + worker traceback)`. The user needs
        # the message alone, which stands after the class name in the traceback's last entry.
        marker = f"{type(self).__module__}.{type(self).__name__}: "
        if message.startswith("Caught ") and marker in message:
            message = message.rsplit(marker, 1)[1].rstrip()
        super().__init__(message)


class ConfigError(UserError):
    """An unknown key, a value out of range, or keys that contradict each other."""


class DataError(UserError):
    """An annotation, box or label file that is missing, unreadable or inconsistent."""


class VideoError(UserError):
    """A video that is missing, empty or cannot be decoded."""


class CheckpointError(UserError):
    """A weight file that is missing, unreadable or does not fit the model."""

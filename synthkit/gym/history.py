"""What of a conversation the model is shown: all of it, or MLGym's shortened form."""

from collections.abc import Callable

Messages = list[dict[str, str]]
RECENT = 5


def keep_all(messages: Messages) -> Messages:
    """The whole conversation."""
    return messages


def keep_last_five(messages: Messages) -> Messages:
    """MLGym's rule: the task and the last five observations stay, older ones become a line that counts theirs."""
    observations = [at for at, message in enumerate(messages) if message["role"] == "user"]
    old = set(observations[1:-RECENT])
    return [shorten(message) if at in old else message for at, message in enumerate(messages)]


def shorten(message: dict[str, str]) -> dict[str, str]:
    lines = len(message["content"].splitlines())
    return message | {"content": f"Old output omitted ({lines} lines)"}


HISTORY: dict[str, Callable[[Messages], Messages]] = {"default": keep_all, "last5": keep_last_five}

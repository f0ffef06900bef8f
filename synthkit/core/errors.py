"""Every error of the kit gives its cause and its fix; what becomes of the work at hand is a property of the type.

A bad rollout, a bad reply or a bad generated task is data: the item is refused, with a typed `reason`. What may pass
(`retryable`: timeouts, 429, 5xx, a sandbox that died) leaves the item owed: a later call tries it again. Only what a
person has to act on is raised to the top.
"""


class SynthkitError(Exception):
    """Base of all errors: `cause` says what is wrong, `fix` what to do about it."""

    retryable = False

    def __init__(self, cause: str, fix: str = ""):
        super().__init__(cause)
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.cause}\n  fix: {self.fix}" if self.fix else self.cause

    def __reduce__(self) -> tuple[object, ...]:
        return rebuild_error, (type(self), self.__dict__)


def rebuild_error(kind: type[SynthkitError], values: dict[str, object]) -> SynthkitError:
    """An error that crosses a process comes out with the same cause, fix and reason."""
    error = kind.__new__(kind, values["cause"])
    error.__dict__.update(values)
    return error


class ParamError(SynthkitError):
    """A parameter is missing, misspelt, mistyped or out of range; `cause` lists every fault found."""


class StageError(SynthkitError):
    """A stage cannot start or did not finish (predecessor missing, other fingerprint, failed check)."""


class RecordError(SynthkitError):
    """A record file holds a line that is not a record; `cause` names file and line."""


class DiskFullError(RecordError):
    """No space is left to write what was done."""


class EndpointError(SynthkitError):
    """An endpoint cannot be used: unreachable, refused the key, unknown model."""


class TransientEndpointError(EndpointError):
    """An endpoint failed in a way that may pass: timeout, 429, 5xx."""

    retryable = True
    reason = "endpoint"


class ReplyError(SynthkitError):
    """A reply that cannot be used: data, not a crash. `reason` is the typed reason that the funnel counts.

    Of the base class itself: a reply that does not follow the form asked for, after one request for repair. `reply` is
    what came, with what it used, where something came.
    """

    reason = "bad_reply"
    reply: object = None


class CutReply(ReplyError):
    """The token limit cut a reply before it said anything that can be used."""

    reason = "reply_cut"


class EmptyReply(ReplyError):
    """A reply without text and without a tool call."""

    reason = "reply_empty"


class ReasoningOnlyReply(ReplyError):
    """The text stands in `reasoning` or `reasoning_content`, and `content` is empty."""

    reason = "reply_reasoning_only"


class RefusedReply(ReplyError):
    """The model refused to answer."""

    reason = "reply_refused"


class FilteredReply(ReplyError):
    """The endpoint's content filter stopped the reply."""

    reason = "reply_filtered"


class ContextOverflow(ReplyError):
    """The conversation no longer fits the model's context window."""

    reason = "context_overflow"


class BudgetError(SynthkitError):
    """The run's USD budget would be exceeded by the next request."""


class HubError(SynthkitError):
    """A dataset is refused; `reason` is the typed reason that the funnel counts."""

    def __init__(self, reason: str, cause: str):
        super().__init__(cause)
        self.reason = reason


class SandboxError(SynthkitError):
    """No sandbox can be started on this machine."""


class SandboxDied(SandboxError):
    """A sandbox died and could not be started again, though one had been started before."""

    retryable = True
    reason = "sandbox"


class NodeLost(SynthkitError):
    """The machine that an item was worked on has left the cluster."""

    retryable = True
    reason = "node"


class WorkerDied(SynthkitError):
    """The process that an item was worked on has died, as happens when memory runs out."""

    retryable = True
    reason = "worker"


class TaskError(SynthkitError):
    """A task folder breaks the contract: missing file, unknown key, unescaped brace."""

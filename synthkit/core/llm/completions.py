"""What came back from a chat endpoint, read without trust: any shape is borne, and usage is believed only in bounds.

`Completion` is what is kept of an answer; `Reply` is what the rest of the kit gets of it. A tool that the model calls
in the API's own field is written into the text, so that one reader serves every model.
"""

import json
from dataclasses import dataclass
from typing import Any, TypeGuard

from synthkit.core.errors import (
    CutReply,
    EmptyReply,
    FilteredReply,
    ReasoningOnlyReply,
    RefusedReply,
    ReplyError,
)

BYTES_PER_TOKEN = 4
# What a chat template and the endpoint's own system prompt may add to a request, in tokens.
TEMPLATE_TOKENS = 1024
UNUSABLE = {kind.reason: kind for kind in (CutReply, EmptyReply, FilteredReply, ReasoningOnlyReply, RefusedReply)}


@dataclass(frozen=True)
class Reply:
    """A model's reply with what it used: tokens, and USD at the list price.

    Behind the text stand the tools that it called, each in the form of `write_tool_call`. `usd` is the same whether
    the reply was paid for now or comes from the cache; `cached` says that it cost nothing now. `finish_reason` is as
    the endpoint says it ('stop', 'length', 'tool_calls', ...), `reasoning_tokens` are part of `tokens_out`.
    """

    text: str
    tokens_in: int
    tokens_out: int
    usd: float
    cached: bool
    finish_reason: str = ""
    reasoning_tokens: int = 0

    @property
    def cut(self) -> bool:
        """Whether the token limit ended it."""
        return self.finish_reason == "length"


@dataclass(frozen=True)
class Completion:
    """An answer as it is kept: its text, its tokens, and where it cannot be used the reason (`fault`) and the words.

    `estimated`: the endpoint's usage was missing or cannot be true, and the tokens are counted from bytes.
    """

    text: str
    finish_reason: str
    tokens_in: int
    tokens_out: int
    reasoning_tokens: int
    estimated: bool
    fault: str = ""
    why: str = ""

    def raise_unusable(self, reply: Reply) -> None:
        """Raise the ReplyError of its own class for an answer that cannot be used; it carries what was paid for."""
        if self.fault:
            error = UNUSABLE.get(self.fault, ReplyError)(self.why)
            error.reply = reply
            raise error


class NotACompletion(Exception):
    """What came back with status 200 is no chat completion: a proxy's page, another service, an error in disguise."""


def read_completion(answer: Any, size: int, most_out: int) -> Completion:
    """An answer's JSON as a Completion. Raises NotACompletion.

    `size` is that of the request in bytes and `most_out` its limit of output tokens: usage beyond them is not true.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list):
        raise NotACompletion
    choice = choices[0] if choices and isinstance(choices[0], dict) else {}
    message = as_dict(choice.get("message"))
    finish = choice.get("finish_reason")
    finish = clean(finish) if isinstance(finish, str) else ""
    text, reasoning = read_message(message), read_reasoning(message)
    written = (len(text.encode()) + len(reasoning.encode())) // BYTES_PER_TOKEN
    tokens_in, tokens_out, thought, estimated = read_usage(answer.get("usage"), size, most_out, written)
    kind, why = find_fault(text, reasoning, read_refusal(message), finish)
    return Completion(text, finish, tokens_in, tokens_out, thought, estimated, kind.reason if kind else "", why)


def find_fault(text: str, reasoning: str, refusal: str, finish: str) -> tuple[type[ReplyError] | None, str]:
    """The class of a reply that cannot be used, and why; (None, "") for one that can."""
    if refusal or finish == "refusal":
        return RefusedReply, f"the model refused to answer: {(refusal or text or 'it gave no reason')[:300]}"
    if finish == "content_filter":
        return FilteredReply, "the endpoint's content filter stopped the reply"
    if text.strip():
        return None, ""
    if finish == "length":
        return CutReply, "the token limit cut the reply before its first word; raise teacher.max_output_tokens"
    if reasoning.strip():
        return ReasoningOnlyReply, "the reply holds reasoning and no answer"
    return EmptyReply, f"the reply is empty ({finish or 'no reason given'})"


def read_usage(usage: Any, size: int, most_out: int, written: int) -> tuple[int, int, int, bool]:
    """(tokens in, tokens out, reasoning tokens, whether estimated); `written` is the estimate of the output."""
    usage = as_dict(usage)
    tokens_in, tokens_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not (is_count(tokens_in, size + TEMPLATE_TOKENS) and tokens_in and is_count(tokens_out, most_out)):
        return size // BYTES_PER_TOKEN, written, 0, True
    thought = as_dict(usage.get("completion_tokens_details")).get("reasoning_tokens")
    return tokens_in, tokens_out, thought if is_count(thought, tokens_out) else 0, False


def is_count(value: Any, most: int) -> TypeGuard[int]:
    """Whether a value is a number of tokens that can be true; a boolean is an int only for Python."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def read_message(message: dict[str, Any]) -> str:
    """The text of an assistant's message, and behind it the tools that it calls."""
    calls = message.get("tool_calls")
    texts = [read_tool_call(call) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return clean("\n".join([part for part in (join_parts(message.get("content"), "text"),) if part] + texts))


def read_refusal(message: dict[str, Any]) -> str:
    """The text of a refusal, in its own field or as a part of the content."""
    field, content = message.get("refusal"), message.get("content")
    if isinstance(field, str) and field.strip():
        return clean(field.strip())
    return clean(join_parts(content, "refusal")) if isinstance(content, list) else ""


def read_reasoning(message: dict[str, Any]) -> str:
    """What the model thought, under either name that servers give it."""
    for name in ("reasoning_content", "reasoning"):
        if isinstance(text := message.get(name), str) and text.strip():
            return clean(text)
    return ""


def join_parts(content: Any, name: str) -> str:
    """A content that is a text, or the texts under `name` of a content in parts; of anything else nothing."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part if isinstance(part, str) and name == "text" else as_dict(part).get(name) for part in content]
    return "".join(part for part in parts if isinstance(part, str))


def read_tool_call(call: dict[str, Any]) -> str:
    """A call as text; arguments that are not JSON stay the string that they are, and a custom tool has its input."""
    function, custom = as_dict(call.get("function")), as_dict(call.get("custom"))
    if not function:
        return write_tool_call(str(custom.get("name", "")), custom.get("input"))
    name, arguments = str(function.get("name", "")), function.get("arguments")
    try:
        return write_tool_call(name, json.loads(arguments) if isinstance(arguments, str) else arguments)
    except (ValueError, RecursionError):
        return write_tool_call(name, arguments)


def write_tool_call(name: str, arguments: Any) -> str:
    """A call of a tool in the text form of Qwen3 and Hermes models."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def as_dict(value: Any) -> dict[str, Any]:
    """A JSON object as it is, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def clean(text: str) -> str:
    """The text without half surrogate pairs, which JSON can hold and which could be neither cached nor recorded."""
    return text.encode("utf-8", "replace").decode()

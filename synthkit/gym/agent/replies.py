"""The formats of a model's reply, each read to the same: a thought and exactly one action in the environment's text.

`thought_action` is MLGym's (free text and one fenced block), `xml` and `json` are after the fields of its other
parsers, and `tool_call` is the text form in which Qwen3 and Hermes models call a function. A call in the API's own
field comes in that form too (`ChatClient.chat` writes it behind the text). A leading <think> block is dropped first.
"""

import json
from collections.abc import Callable
from typing import Any

from synthkit.core.errors import ParamError
from synthkit.core.llm import write_tool_call
from synthkit.gym.agent.parsing import FormatError, parse_reply, skip_text, split_action, strip_think
from synthkit.gym.agent.tools import find_call, write_action

Read = tuple[str, str]
COMMAND_TAGS = ("<command>", "</command>")
CALL_TAGS = ("<tool_call>", "</tool_call>")


def choose_format(name: str) -> Callable[[str], Read]:
    """The reader of a format: it gives (thought, action) of a reply and raises FormatError, nothing else.

    Raises ParamError for an unknown name.
    """
    if name not in READERS:
        raise ParamError(f"there is no reply format {name!r}", f"take one of {', '.join(READERS)}")
    return READERS[name]


def read_xml(reply: str) -> Read:
    """Free text and one `<command>...</command>`; a tag inside a here-document, an edit or an insert is its text."""
    start, end = COMMAND_TAGS
    before, found, rest = strip_think(reply.replace("\r\n", "\n")).partition(start)
    if not found:
        raise FormatError(f"the reply has no {start}...{end}")
    lines = rest.split("\n")
    at = 0
    while at < len(lines) and end not in lines[at]:
        if start in lines[at]:
            raise FormatError(f"the reply has {start} inside another {start}, and there has to be exactly one")
        at = skip_text(lines, at)
    if at >= len(lines):
        raise FormatError(f"{start} is not closed with {end}")
    last, _, after = lines[at].partition(end)
    after = "\n".join([after, *lines[at + 1:]])
    if start in last or any(tag in after for tag in COMMAND_TAGS):
        raise FormatError(f"the reply has more than one {start}...{end}, and there has to be exactly one")
    action = "\n".join([*lines[:at], last]).removeprefix("\n").removesuffix("\n")
    return join_thought(before, after), check_action(action, start)


def read_json(reply: str) -> Read:
    """One JSON object: {"thought": text, "command": {"name": tool, "arguments": {...}}}; a code fence may enclose it.

    The tools are those of `tools.py`.
    """
    text = strip_think(reply).strip()
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].removeprefix("json")
    said, end = decode_object(text.strip())
    if text.strip()[end:]:
        raise FormatError("there is text behind the JSON object, and the reply has to be that object alone")
    check_keys(said, ("thought", "command"), "the object")
    if not isinstance(said["thought"], str):
        raise FormatError("`thought` is not a string")
    return said["thought"].strip(), read_call(said["command"], "`command`")


def read_tool_call(reply: str) -> Read:
    """Free text and one `<tool_call>{"name": tool, "arguments": {...}}</tool_call>`, a tool of `tools.py`."""
    start, end = CALL_TAGS
    before, found, rest = strip_think(reply).partition(start)
    if not found:
        raise FormatError(f"the reply has no {start}...{end}, so no tool was called")
    rest = rest.lstrip()
    call, at = decode_object(rest)
    closed, found, after = rest[at:].partition(end)
    if closed.strip() or not found:
        raise FormatError(f"behind the JSON object of {start} there is no {end}")
    if start in after:
        raise FormatError("the reply calls more than one tool, and there has to be exactly one call")
    return join_thought(before, after), read_call(call, start)


def read_call(call: Any, place: str) -> str:
    """The action of a decoded call, a JSON value that stood at `place`. Raises FormatError."""
    check_keys(call, ("name", "arguments"), place)
    return check_action(write_action(call["name"], call["arguments"]), place)


def decode_object(text: str) -> tuple[dict[str, Any], int]:
    """The JSON object that a text starts with, and where it ends. Raises FormatError."""
    try:
        value, end = DECODER.raw_decode(text)
        # JSON can hold half a surrogate pair, which no file can.
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise FormatError(f"no JSON object can be read at {place}: {error.msg}; "
                          'inside of a string write a line break as \\n and a quote as \\"') from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"no JSON object can be read: {error}") from error
    if not isinstance(value, dict):
        raise FormatError("the JSON value is not an object")
    return value, end


def refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its pairs. Of two commands under one name neither may win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=refuse_doubles)


def check_keys(value: Any, keys: tuple[str, ...], place: str) -> None:
    """Raises FormatError when a JSON value is no object with exactly these keys."""
    if not isinstance(value, dict) or set(value) != set(keys):
        raise FormatError(f"{place} has to be a JSON object with exactly the keys {' and '.join(keys)}")


def check_action(action: str, place: str) -> str:
    """The action itself. Raises FormatError when it is blank; `place` names where it stood."""
    if not action.strip():
        raise FormatError(f"the action in {place} is empty")
    return action


def join_thought(before: str, after: str) -> str:
    """The thought from the texts before and behind an action, trimmed, on lines of their own."""
    return "\n".join(part for part in (before.strip(), after.strip()) if part)


READERS: dict[str, Callable[[str], Read]] = {
    "thought_action": parse_reply, "xml": read_xml, "json": read_json, "tool_call": read_tool_call,
}


def write_reply(thought: str, action: str, reply_format: str) -> str:
    """A reply that says an action in a format: its reader gives back an action of the same parts.

    Raises FormatError for what the format cannot say, such as a bare fence outside of an edit's text.
    """
    read = choose_format(reply_format)
    name, arguments = find_call(action)
    if reply_format == "json":
        call = {"name": name, "arguments": arguments}
        reply = json.dumps({"thought": thought, "command": call}, ensure_ascii=False)
    elif reply_format == "tool_call":
        reply = f"{thought}\n{write_tool_call(name, arguments)}"
    elif reply_format == "xml":
        reply = f"{thought}\n<command>\n{action}\n</command>"
    else:
        reply = f"DISCUSSION\n{thought}\n```\n{action}\n```"
    if split_action(read(reply)[1]) != split_action(action):
        raise FormatError(f"this action cannot be written in the format {reply_format}")
    return reply

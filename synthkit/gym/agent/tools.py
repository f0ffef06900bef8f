"""The environment's commands as tools of their own, and each call of one as the action text that the environment takes.

A call is a name and an object of arguments, in the reply formats `json` and `tool_call`. What no action text can say
is refused: an edit whose text holds the line that ends an edit would have the rest of it run as commands.
"""

import re
from functools import cache
from shlex import join
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from synthkit.core.faults import write_faults
from synthkit.gym.agent.parsing import TEXT_COMMANDS, Call, FormatError, split_action


def check_filled(text: str) -> str:
    """The text itself, for pydantic. Raises ValueError when it is blank."""
    if not text.strip():
        raise ValueError("it is empty")
    return text


Line = Annotated[int, Field(ge=0)]
Command = Annotated[str, AfterValidator(check_filled)]
UNENDED = "`text` without a line break at its end"
Fields = dict[str, tuple[Any, Any]]

# What each tool does, and its arguments in the order in which the command takes them; `...` are needed.
TOOLS: dict[str, tuple[str, Fields]] = {
    "bash": ("run any bash command", {"command": (Command, ...)}),
    "open": ("show a file, from that line on", {"path": (str, ...), "line": (Line | None, None)}),
    "goto": ("show that line of the open file", {"line": (Line, ...)}),
    "scroll_up": ("move up in the open file", {}),
    "scroll_down": ("move down in the open file", {}),
    "create": ("make a new file and open it", {"path": (str, ...)}),
    "search_dir": ("find a text in a folder's files", {"text": (str, ...), "folder": (str | None, None)}),
    "search_file": ("find a text in a file", {"text": (str, ...), "path": (str | None, None)}),
    "find_file": ("find files by name", {"name": (str, ...), "folder": (str | None, None)}),
    "edit": (f"replace the lines start to end of the open file by new ones, {UNENDED}",
             {"start": (Line, ...), "end": (Line, ...), "text": (str, ...)}),
    "insert": (f"put new lines after that line of the open file, {UNENDED}", {"line": (Line, ...), "text": (str, ...)}),
    "validate": ("check the submission and see its public score; allowed at any time", {}),
    "submit": ("hand the submission in for its final score; this is the end", {}),
}
ENDINGS = ("validate", "submit")
MAX_SHOWN = 40


@cache
def build_form(name: str) -> type[BaseModel]:
    """The model that checks a tool's arguments."""
    fields: dict[str, Any] = TOOLS[name][1]
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def list_tools() -> list[dict[str, Any]]:
    """The tools in the form of OpenAI's chat API, for the `tools` of `ChatClient.chat`."""
    return [{"type": "function", "function": {"name": name, "description": about, "parameters": write_schema(name)}}
            for name, (about, _) in TOOLS.items()]


def write_schema(name: str) -> dict[str, Any]:
    """The JSON schema of a tool's arguments, without the titles that pydantic adds."""
    schema = build_form(name).model_json_schema()
    del schema["title"]
    for field in schema["properties"].values():
        del field["title"]
    return schema


def describe_tools() -> list[str]:
    """A line for each tool, for a prompt; an argument that may be left out has a question mark."""
    lines = []
    for name, (about, fields) in TOOLS.items():
        shown = ", ".join(field if default is ... else f"{field}?" for field, (_, default) in fields.items())
        lines.append(f"{name}({shown}): {about}")
    return lines


def write_action(name: Any, arguments: Any) -> str:
    """The action text of a call. Raises FormatError for a call that is not one of a tool's, or that no text can say."""
    if not isinstance(name, str) or name not in TOOLS:
        raise FormatError(f"there is no tool {repr(name)[:MAX_SHOWN]}; the tools are {', '.join(TOOLS)}")
    if not isinstance(arguments, dict):
        raise FormatError(f"the arguments of {name} are not a JSON object")
    try:
        form = build_form(name).model_validate(arguments)
    except ValidationError as error:
        raise FormatError(f"the arguments of {name} do not fit: {describe_faults(error)}") from error
    values = form.model_dump(exclude_none=True)
    if name == "bash":
        return str(values["command"])
    return name if name in ENDINGS else write_call(name, values)


def describe_faults(error: ValidationError) -> str:
    """The first three faults of a call's arguments, each with the argument's name, for the model."""
    return write_faults(error, most=3, longest=MAX_SHOWN)


def write_call(name: str, values: dict[str, Any]) -> str:
    """An editor command as text that reads back as this very command and nothing else. Raises FormatError."""
    text = values.pop("text", None) if name in TEXT_COMMANDS else None
    words = [f"{values['start']}:{values['end']}"] if name == "edit" else [str(value) for value in values.values()]
    action = join([name, *words])
    if text is not None:
        action = f"{action}\n{text}\n{TEXT_COMMANDS[name]}"
    if split_action(action) == [Call(name, tuple(words), text)]:
        return action
    if text is not None:
        raise FormatError(f"the text of {name} holds the line {TEXT_COMMANDS[name]}, which ends it; "
                          "write this text with bash and a here-document")
    raise FormatError(f"the arguments of {name} have to be one line each")


def find_call(action: str) -> tuple[str, dict[str, Any]]:
    """(tool, arguments) of an action: its own tool when the action is one command, else bash with all of it.

    The call's action text does what the action does: `split_action` gives the same parts.
    """
    name, arguments = guess_call(action)
    try:
        if name and split_action(write_action(name, arguments)) == split_action(action):
            return name, build_form(name)(**arguments).model_dump(exclude_none=True)
    except FormatError:
        pass
    return "bash", {"command": action}


def guess_call(action: str) -> tuple[str, dict[str, Any]]:
    """(tool, arguments) that an action may be; the tool is '' where it is none."""
    if action.strip() in ENDINGS:
        return action.strip(), {}
    call, *more = [*split_action(action), None]
    if not isinstance(call, Call) or more != [None]:
        return "", {}
    words = re.split(":", call.args[0], maxsplit=1) if call.name == "edit" and call.args else [*call.args]
    words += [] if call.text is None else [call.text]
    return call.name, dict(zip(TOOLS[call.name][1], words, strict=False))

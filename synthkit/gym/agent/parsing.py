"""From a model's reply to its one action, and from an action to the calls and shell commands that it holds.

A reply is free text and one fenced block. MLGym refuses a reply as soon as code inside the action holds a fence; here
a fence inside a here-document, an edit or an insert belongs to that text.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from synthkit.core.errors import ReplyError

ONE_LINE_COMMANDS = frozenset(
    {"open", "goto", "scroll_up", "scroll_down", "create", "search_dir", "search_file", "find_file"}
)
TEXT_COMMANDS = {"edit": "end_of_edit", "insert": "end_of_insert"}

FENCE = re.compile(r"^(`{3,})[ \t]*([\w+.-]*)[ \t]*$")
HERE_DOCUMENT = re.compile(r"(?<!<)<<(-?)[ \t]*(?:\\?([A-Za-z_][\w.-]*)|'([^'\n]+)'|\"([^\"\n]+)\")")
TEXT_COMMAND = re.compile(r"^(edit|insert)(?:[ \t].*)?$")
QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""")
BARE_OPERATOR = re.compile(r"""[();<>|&'"\\]""")
BLOCKS = {"for": 1, "while": 1, "until": 1, "select": 1, "done": -1, "if": 1, "fi": -1, "case": 1, "esac": -1,
          "{": 1, "}": -1}
MOST_SHELL_CHARS = 8000
BEFORE_COMMAND = frozenset({"do", "then", "else", "elif", "{", "!", "if", "while", "until"})


class FormatError(ReplyError):
    """A reply without exactly one action in its format. `cause` says what is wrong with it, to the model."""


@dataclass(frozen=True)
class Call:
    """An editor command for the guest; `text` is the new text of an edit or insert, without the end marker."""

    name: str
    args: tuple[str, ...] = ()
    text: str | None = None


@dataclass(frozen=True)
class Shell:
    """Text for the session's bash."""

    text: str


def parse_reply(reply: str) -> tuple[str, str]:
    """(thought, action) of a reply. Raises FormatError.

    A leading <think> block is dropped. The action is the one fenced block whose fences start a line; a language tag
    is allowed, and a closing fence is at least as long as the opening one.
    """
    lines = strip_think(reply.replace("\r\n", "\n")).split("\n")
    blocks = list(find_blocks(lines))
    if not blocks:
        raise FormatError("the reply has no fenced block with an action")
    if len(blocks) > 1:
        raise FormatError(f"the reply has {len(blocks)} fenced blocks, and there has to be exactly one")
    first, last = blocks[0]
    action = "\n".join(lines[first + 1:last])
    if not action.strip():
        raise FormatError("the fenced block is empty")
    return "\n".join(lines[:first] + lines[last + 1:]).strip(), action


def strip_think(reply: str) -> str:
    """The reply without the <think> block it starts with; an unfinished one takes everything."""
    text = reply.lstrip()
    if not text.startswith("<think>"):
        return reply
    return text.partition("</think>")[2]


def find_blocks(lines: list[str]) -> Iterator[tuple[int, int]]:
    """(line of the opening fence, line of the closing fence) of each block. Raises FormatError at an unclosed one."""
    at = 0
    while at < len(lines):
        if fence := FENCE.match(lines[at]):
            end = find_close(lines, at, len(fence[1]))
            if end is None:
                raise FormatError("the fenced block is not closed")
            yield at, end
            at = end
        at += 1


def find_close(lines: list[str], start: int, width: int) -> int | None:
    """The line that closes the block opened at `start` by `width` backticks; None when no line does.

    It is a bare fence, at least as long, outside of nested blocks and of a here-document's, edit's or insert's text.
    """
    open_fences = [width]
    at = start + 1
    while at < len(lines):
        fence = FENCE.match(lines[at])
        if fence and not fence.group(2) and len(fence.group(1)) >= open_fences[-1]:
            open_fences.pop()
            if not open_fences:
                return at
        elif fence and fence.group(2):
            open_fences.append(len(fence.group(1)))
        at = skip_text(lines, at)
    return None


def skip_text(lines: list[str], at: int) -> int:
    """The line after `at`, or after the here-documents, edit or insert that start at `at` and have an end."""
    command = TEXT_COMMAND.match(lines[at])
    if command:
        return find_line(lines, at + 1, TEXT_COMMANDS[command.group(1)]) or at + 1
    after = at + 1
    for dash, *words in HERE_DOCUMENT.findall(lines[at]):
        after = find_line(lines, after, next(filter(None, words)), indent="\t" if dash else "") or after
    return after


def find_line(lines: list[str], start: int, wanted: str, indent: str = "") -> int | None:
    """The line after the first line from `start` on that reads `wanted`; None when no line does.

    Any of the characters of `indent` may stand before it.
    """
    found = (at + 1 for at in range(start, len(lines)) if lines[at].lstrip(indent or "\0") == wanted)
    return next(found, None)


def split_action(action: str) -> list[Call | Shell]:
    """The parts of an action in their order: editor commands on lines of their own, and the shell text between them.

    A line inside a here-document, a quotation, a loop or a condition is never an editor command.
    """
    lines = action.strip("\n").split("\n")
    parts: list[Call | Shell] = []
    shell: list[str] = []
    heads: list[str] = []
    at = 0
    while at < len(lines):
        call, after = read_call(lines, at)
        # Last, for it reads all that stands before.
        if call and is_complete(heads):
            parts += [*join_shell(shell), call]
            shell, heads = [], []
        else:
            after = skip_text(lines, at)
            shell += lines[at:after]
            heads.append(lines[at])
        at = after
    return parts + join_shell(shell)


def join_shell(lines: list[str]) -> list[Shell]:
    """The lines as one part for the shell; no part when they are blank."""
    text = "\n".join(lines)
    return [Shell(text)] if text.strip() else []


def read_call(lines: list[str], at: int) -> tuple[Call | None, int]:
    """The editor command that starts at a line and the line after it; None when the line is for the shell."""
    name = (lines[at].split() or [""])[0]
    if TEXT_COMMAND.match(lines[at]):
        return read_text_call(lines, at)
    if name not in ONE_LINE_COMMANDS or has_operator(lines[at]):
        return None, at
    return Call(name, tuple(shlex.split(lines[at])[1:])), at + 1


def read_text_call(lines: list[str], at: int) -> tuple[Call, int]:
    """An edit or insert. Without its end marker it takes all the rest, `text` is None, and the guest explains the form.

    What was meant as new text must not be run as shell commands.
    """
    name, *args = lines[at].split()
    end = find_line(lines, at + 1, TEXT_COMMANDS[name])
    if end is None:
        return Call(name, tuple(args)), len(lines)
    return Call(name, tuple(args), "\n".join(lines[at + 1:end - 1])), end


def has_operator(line: str) -> bool:
    """Whether bash would read more than one plain command in a line: a pipe, a list, a redirection, an open quote."""
    return bool(BARE_OPERATOR.search(QUOTED.sub("", line)))


def is_complete(heads: list[str]) -> bool:
    """Whether shell lines (here-documents left out) end outside of quotations, loops and continued lines."""
    if not heads:
        return True
    text = "\n".join(heads).rstrip()
    # Each editor command asks this anew: behind so much shell text none is looked for.
    if len(text) > MOST_SHELL_CHARS:
        return False
    if text.endswith(("\\", "|", "&&", "||")):
        return False
    try:
        return count_blocks(text) <= 0
    except ValueError:
        return False


def count_blocks(text: str) -> int:
    """How many loops, conditions, groups and subshells are open at the end of shell text.

    Raises ValueError inside of a quotation.
    """
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace = " \t\r"
    depth = cases = 0
    starts = True
    for word in lexer:
        if set(word) <= set("();<>|&\n"):
            # In a case a bare parenthesis ends a pattern.
            depth += 0 if cases else word.count("(") - word.count(")")
            starts = bool(set(word) - set("<>"))
            continue
        if starts:
            depth += BLOCKS.get(word, 0)
            cases += {"case": 1, "esac": -1}.get(word, 0)
        starts = starts and word in BEFORE_COMMAND
    return depth

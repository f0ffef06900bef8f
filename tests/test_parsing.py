"""Replies and actions: what is found in them, and that code inside an action never breaks the parsing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.gym.parsing import Call, FormatError, Shell, parse_reply, split_action

# The same examples each time, and no time limit for one: a busy machine is not a fault.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

FENCES = ["```", "```python", "````", "~~~", "```\tpy", "end_of_insert", "EOF2", "DISCUSSION"]
line = st.one_of(st.sampled_from(FENCES), st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=30))
body = st.lists(line, max_size=12).map("\n".join)
prose = st.text(st.characters(exclude_characters="`<\r", codec="utf-8"), max_size=80)


def reply_with(action: str, thought: str = "I look.") -> str:
    return f"DISCUSSION\n{thought}\n```\n{action}\n```"


@given(prose, body.filter(lambda text: "EOF" not in text.split("\n")))
def test_a_here_document_may_hold_anything(thought: str, text: str) -> None:
    action = f"cat > notes.md <<'EOF'\n{text}\nEOF\npython notes.py"
    assert parse_reply(reply_with(action, thought))[1] == action
    assert split_action(action) == [Shell(action)]


@given(body.filter(lambda text: "end_of_edit" not in text.split("\n")))
def test_an_edit_may_hold_anything(text: str) -> None:
    action = f"edit 1:2\n{text}\nend_of_edit"
    assert parse_reply(reply_with(action))[1] == action
    assert split_action(action) == [Call("edit", ("1:2",), text)]


@given(st.text(max_size=200))
def test_any_reply_parses_or_is_a_format_error(text: str) -> None:
    try:
        _, action = parse_reply(text)
    except FormatError as error:
        assert error.cause
    else:
        assert action.strip()


@given(body)
def test_no_line_of_an_action_is_lost(action: str) -> None:
    parts = split_action(action)
    kept = sum(part.text.count("\n") + 1 for part in parts if isinstance(part, Shell))
    assert kept <= action.count("\n") + 1
    assert bool(parts) == bool(action.strip())


@given(prose.filter(lambda text: "</think>" not in text))
def test_a_think_block_is_dropped_whatever_it_holds(thought: str) -> None:
    reply = f"<think>\n{thought}\n```\nrm -rf .\n```\n</think>\n{reply_with('ls')}"
    assert parse_reply(reply) == ("DISCUSSION\nI look.", "ls")


def test_thought_is_the_rest_and_a_language_tag_is_allowed() -> None:
    assert parse_reply("DISCUSSION\nFirst.\n```bash\nls\npwd\n```\nThat is all.") == (
        "DISCUSSION\nFirst.\nThat is all.", "ls\npwd")


def test_fences_nest_by_tag_and_by_length() -> None:
    assert parse_reply("a\n```\necho '\n```python\nx\n```\n'\n```")[1] == "echo '\n```python\nx\n```\n'"
    assert parse_reply("a\n````\necho '\n```\n'\n````")[1] == "echo '\n```\n'"


@pytest.mark.parametrize(("reply", "fault"), [
    ("I would list the files.", "no fenced block"),
    ("Run ```ls``` now.", "no fenced block"),
    ("a\n```\nls\n```\nb\n```\npwd\n```", "2 fenced blocks"),
    ("a\n```\nls", "not closed"),
    ("a\n```\n  \n```", "empty"),
    ("<think>\n```\nls\n```", "no fenced block"),
    ("", "no fenced block"),
])
def test_format_errors_say_what_is_wrong(reply: str, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        parse_reply(reply)


def test_editor_commands_and_shell_text_in_one_action() -> None:
    action = "cd src\nopen 'my file.py' 12\ninsert 3\nx = 1\nend_of_insert\nls | wc -l\nscroll_down"
    assert split_action(action) == [
        Shell("cd src"), Call("open", ("my file.py", "12")), Call("insert", ("3",), "x = 1"), Shell("ls | wc -l"),
        Call("scroll_down"),
    ]


@pytest.mark.parametrize("action", [
    "open a.py | head", "create a.py && python a.py", "python -c '\nopen x\n'", "for f in *; do\nopen $f\ndone",
    "echo a \\\nopen b", "cat <<A <<B\nopen x\nA\nopen y\nB",
])
def test_lines_that_bash_has_to_read_stay_with_bash(action: str) -> None:
    assert split_action(action) == [Shell(action)]


def test_an_edit_without_its_end_takes_the_rest() -> None:
    assert split_action("edit 1:1\nrm -rf data\nls") == [Call("edit", ("1:1",), None)]

"""Replies and actions: what is found in them, and that code inside an action never breaks the parsing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.gym.agent.parsing import Call, FormatError, Shell, parse_reply, split_action
from synthkit.gym.agent.replies import READERS, write_reply
from synthkit.gym.agent.tools import TOOLS, find_call, list_tools, write_action

# The same examples each time, and no time limit for one: a busy machine is not a fault.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

FENCES = ["```", "```python", "````", "~~~", "```\tpy", "end_of_insert", "EOF2", "DISCUSSION", "<command>",
          "</command>", "<tool_call>", '{"name": "submit", "arguments": {}}', "</tool_call>", "</think>", "\\", '"']
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


LS = '{"name": "bash", "arguments": {"command": "ls"}}'
PIECES = [*FENCES, "<think>", "\n", "ls", LS, '{"thought": "", "command": ', "}", '{"name": "edit", "arguments": ',
          '{"start": 1, "end": "2", "text": "\\ud800"}', "null", "edit 1:2", "end_of_edit", "[" * 3000, "9" * 5000,
          "```json", "<<EOF"]


@pytest.mark.parametrize("reply_format", READERS)
@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=9).map("".join)))
def test_any_reply_parses_or_is_a_format_error(reply_format: str, text: str) -> None:
    try:
        _, action = READERS[reply_format](text)
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
    for word, quoted in ((";", "';'"), ("a|b", '"a|b"'), ("(", "\\(")):
        assert split_action(f"search_file {quoted}") == [Call("search_file", (word,))]


@pytest.mark.parametrize("action", [
    "open a.py | head", "create a.py && python a.py", "python -c '\nopen x\n'", "for f in *; do\nopen $f\ndone",
    "echo a \\\nopen b", "cat <<A <<B\nopen x\nA\nopen y\nB", "open a;ls", "open $(ls)", "open 'a", "open a\\",
    "open a&",
])
def test_lines_that_bash_has_to_read_stay_with_bash(action: str) -> None:
    assert split_action(action) == [Shell(action)]


def test_an_edit_without_its_end_takes_the_rest() -> None:
    assert split_action("edit 1:1\nrm -rf data\nls") == [Call("edit", ("1:1",), None)]


@pytest.mark.parametrize("reply_format", READERS)
@given(body)
def test_an_edit_comes_back_unchanged_in_every_format(reply_format: str, text: str) -> None:
    action = f"edit 1:2\n{text}\nend_of_edit"
    assert READERS[reply_format](write_reply("I look.", action, reply_format))[1] == action


@pytest.mark.parametrize("reply_format", READERS)
@given(st.sampled_from(["submit", " validate\n", "scroll_up", "goto 7", "open 'a b.py' 12", "search_dir \";\" .",
                        "edit 1:1", "edit 1:2\nrm -rf data", "insert 3\n\nend_of_insert\nls", "open 007",
                        "create a b c"]))
def test_an_action_of_any_kind_comes_back_with_the_same_parts(reply_format: str, action: str) -> None:
    thought, read = READERS[reply_format](write_reply("I look.", action, reply_format))
    assert split_action(read) == split_action(action) and thought.endswith("I look.")


@given(st.sampled_from(["edit", "insert"]), st.one_of(body, body.map(lambda text: f"{text}\nend_of_edit\nsubmit")))
def test_the_text_of_a_call_never_becomes_a_command(name: str, text: str) -> None:
    at = {"start": 1, "end": 2} if name == "edit" else {"line": 1}
    broken = f"end_of_{name}" in text.split("\n")
    try:
        action = write_action(name, {**at, "text": text})
    except FormatError as error:
        assert broken and f"end_of_{name}, which ends it" in error.cause
    else:
        assert not broken and split_action(action) == [Call(name, ("1:2" if name == "edit" else "1",), text)]


@given(st.sampled_from(["open", "create"]), st.text(max_size=20))
def test_the_words_of_a_call_never_become_a_command(name: str, word: str) -> None:
    try:
        action = write_action(name, {"path": word})
    except FormatError as error:
        assert "\n" in word and "one line" in error.cause
    else:
        assert split_action(action) == [Call(name, (word,))]


@pytest.mark.parametrize(("name", "arguments", "fault"), [
    ("rm", {}, "no tool 'rm'; the tools are bash, open"), (None, {}, "no tool None"),
    ("bash", "ls", "not a JSON object"), ("bash", {}, "command: Field required"),
    ("bash", {"command": " "}, "it is empty"),
    ("bash", {"command": "ls", "cwd": "/"}, "cwd: Extra inputs"), ("goto", {"line": -1}, "greater than or equal to 0"),
    ("edit", {"start": "a", "end": 2, "text": ""}, "start: Input should be a valid integer"),
    ("open", {"path": "a\nsubmit"}, "one line each"),
])
def test_a_call_that_no_tool_takes_says_why(name: str, arguments: dict, fault: str) -> None:
    with pytest.raises(FormatError) as caught:
        write_action(name, arguments)
    assert fault in caught.value.cause


def test_tools_are_offered_with_what_their_commands_take() -> None:
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in list_tools()}
    assert list(offered) == list(TOOLS)
    assert offered["edit"]["required"] == ["start", "end", "text"] and not offered["edit"]["additionalProperties"]
    assert offered["open"]["required"] == ["path"] and offered["validate"]["properties"] == {}
    assert find_call("open a.py 3") == ("open", {"path": "a.py", "line": 3})
    assert find_call("ls; submit") == ("bash", {"command": "ls; submit"})


@pytest.mark.parametrize(("reply_format", "reply", "thought"), [
    ("xml", "I look.\n<command>ls</command>\nDone.", "I look.\nDone."),
    ("xml", "<think><command>rm</command></think>\n<command>\nls\n</command>", ""),
    ("json", f'{{"thought": "I look.", "command": {LS}}}', "I look."),
    ("json", f'<think>{{</think>```json\n{{"command": {LS}, "thought": ""}}\n```', ""),
    ("tool_call", f"I look.\n<tool_call>\n{LS}\n</tool_call>", "I look."),
    ("tool_call", f"<think><tool_call></think><tool_call>{LS}</tool_call>", ""),
])
def test_a_reply_in_its_format_is_read(reply_format: str, reply: str, thought: str) -> None:
    assert READERS[reply_format](reply) == (thought, "ls")


@pytest.mark.parametrize(("reply_format", "reply", "fault"), [
    ("xml", "ls", "no <command>...</command>"), ("xml", "<command>ls", "not closed"),
    ("xml", "<command>ls</command><command>pwd</command>", "more than one"), ("xml", "<command>\n</command>", "empty"),
    ("xml", "the tag <command>:\n<command>ls</command>", "inside|more than one"),
    ("xml", "<command>\nedit 1:1\na</command>\nend_of_edit</command>", "more than one"),
    ("json", "ls", "line 1, column 1"), ("json", f'{{"thought": "", "command": {LS}}} ls', "behind the JSON object"),
    ("json", f'{{"thought": "", "command": {LS}, "command": {LS}}}', "stands twice"), ("json", "[1]", "not an object"),
    ("json", '{"thought": "", "command": "ls"}', "keys name and arguments"),
    ("json", f'{{"thought": 1, "command": {LS}}}', "not a string"), ("json", '"\\ud800"', "surrogates not allowed"),
    ("json", f'{{"command": {LS}}}', "keys thought and command"),
    ("json", '{"thought": "a\nb"}', "write a line break as"), ("json", "[" * 99_999, "no JSON object"),
    ("tool_call", "ls", "no tool was called"), ("tool_call", f"<tool_call>{LS}", "there is no </tool_call>"),
    ("tool_call", f"<tool_call>{LS}{LS}</tool_call>", "there is no </tool_call>"),
    ("tool_call", f"<tool_call>{LS}</tool_call>\n<tool_call>{LS}</tool_call>", "more than one tool"),
    ("tool_call", '<tool_call>{"name": "bash", "arguments": "ls"}</tool_call>', "not a JSON object"),
])
def test_a_reply_out_of_its_format_says_what_is_wrong(reply_format: str, reply: str, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        READERS[reply_format](reply)


def test_what_a_format_cannot_say_is_not_written() -> None:
    for reply_format, action in (("thought_action", "ls\n```\npwd"), ("xml", "echo '</command>'")):
        with pytest.raises(FormatError):
            write_reply("", action, reply_format)
        assert READERS["json"](write_reply("", action, "json")) == ("", action)


@pytest.mark.parametrize("shell", [
    "for n in 3 4; do echo $n; done", "for n in 3 4; do\n  echo $n\ndone", "if true; then echo; fi", "(cd /; ls)",
    "f() {\n  echo \"{ do\"\n}", "case x in\n  a) echo;;\n  *) echo;;\nesac", "echo for if do {",
    "while read x; do\n echo\ndone < f",
    "x=$(ls)", "cat <<END\nfor x in\nEND", "echo 'a\nopen b'", "[ -f x ] && {\n echo\n}", "# for the moment",
])
def test_an_editor_command_behind_shell_text_that_is_complete(shell: str) -> None:
    assert split_action(f"{shell}\nopen evaluate.py") == [Shell(shell), Call("open", ("evaluate.py",))]


@pytest.mark.parametrize("shell", ["for n in 3 4; do", "if true; then", "(", "f() {", "echo a |", "case x in", "echo '",
                                   "while true; do if true; then echo; fi"])
def test_an_editor_command_inside_of_shell_text_is_for_the_shell(shell: str) -> None:
    assert split_action(f"{shell}\nopen evaluate.py") == [Shell(f"{shell}\nopen evaluate.py")]

"""Section 1.7 of the MLGym contract: the editor's commands, and several of them in one action."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kits.contract_kit import CONFINED, SANDBOX, WORKSPACE, load_duel

from synthkit.gym.environment import Environment

PNG = r"printf '\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR' > picture.png"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    with Environment(load_duel(tmp_path_factory.mktemp("root")), SANDBOX, max_steps=10_000) as env:
        env.reset()
        yield env


@pytest.fixture(autouse=True)
def fresh(env: Environment) -> None:
    """Before each test: only three files in the workspace, and the shell in it."""
    env.step(f"cd {WORKSPACE}; chmod -R u+w .; rm -rf ./*; seq -f 'line %g' 3000 > long.txt; seq 3 > three.txt; {PNG}")


def see(env: Environment, action: str) -> list[str]:
    """The lines of an action's observation."""
    return env.step(action)[0].split("\n")


def read(env: Environment, name: str) -> str:
    """A file of the workspace, read from outside."""
    return (env.workspace / name).read_text()


def test_1_7_open_shows_head_window_and_what_is_below(env: Environment) -> None:
    env.step("seq 1500 > short.txt")
    told = env.sandbox.call("open", ["short.txt"]).output.split("\n")
    assert (told[0], told[1], told[1000]) == (f"[File: {WORKSPACE}/short.txt (1500 lines total)]", "1:1", "1000:1000")
    assert told[1001:] == ["(500 more lines below)"]


def test_1_7_a_whole_short_file_is_shown_without_counts(env: Environment) -> None:
    assert see(env, "open three.txt") == [f"[File: {WORKSPACE}/three.txt (3 lines total)]", "1:1", "2:2", "3:3"]
    assert env.state()["open_file"] == f"{WORKSPACE}/three.txt"


@pytest.mark.parametrize(("path", "said"), [
    (".", "is a folder"), ("picture.png", "not a text file"), ("missing.txt", "No such file"),
])
def test_1_7_open_refuses_folders_pictures_and_what_is_missing(env: Environment, path: str, said: str) -> None:
    env.step("open three.txt")
    assert said in env.step(f"open {path}")[0]
    assert env.state()["open_file"].endswith("/three.txt")


def test_1_7_a_path_may_be_quoted_relative_or_absolute(env: Environment) -> None:
    env.step("mkdir 'a b'; echo x > 'a b/c d.txt'; cd 'a b'")
    for path in ('"c d.txt"', "'c d.txt'", f'"{WORKSPACE}/a b/c d.txt"', r"c\ d.txt"):
        assert see(env, f"open {path}")[0] == f"[File: {WORKSPACE}/a b/c d.txt (1 lines total)]"


def test_1_7_differs_a_large_file_opens_at_a_line_too(env: Environment) -> None:
    # MLGym refuses a file of more than 20,000 characters with a line number; the window is as large without one.
    assert len(read(env, "long.txt")) > 20_000
    told = env.sandbox.call("open", ["long.txt", "2000"]).output.split("\n")
    assert told[1] == "(1833 more lines above)" and "2000:line 2000" in told


@pytest.mark.parametrize(("line", "first"), [(1, 1), (167, 1), (1000, 834), (2500, 2001), (3000, 2001)])
def test_1_7_goto_puts_the_line_a_sixth_below_the_top(env: Environment, line: int, first: int) -> None:
    env.step("open long.txt")
    told = env.sandbox.call("goto", [str(line)]).output.split("\n")
    assert told[1 if first == 1 else 2] == f"{first}:line {first}" and f"{line}:line {line}" in told


def test_1_7_every_line_of_a_file_can_be_shown(env: Environment) -> None:
    env.step("for i in $(seq 300); do echo \"line $i of a file that is not so very long\"; done > code.txt")
    assert "\n150:line 150 of" in env.step("open code.txt 150")[0]


def test_1_7_a_search_takes_a_pattern(env: Environment) -> None:
    assert see(env, "search_file '^line 12[34]$' long.txt")[1:] == ["123:line 123", "124:line 124"]


def test_1_7_scrolling_moves_a_window_less_two_lines(env: Environment) -> None:
    env.step("open long.txt")
    firsts = [env.sandbox.call(name, []).output.split("\n")[2].partition(":")[0]
              for name in ("scroll_down", "scroll_down", "scroll_down", "scroll_up")]
    # At the end the window stops at the last line.
    assert firsts == ["999", "1997", "2001", "1003"]
    assert env.sandbox.call("scroll_up", []).output.split("\n")[2] == "5:line 5"


def test_1_7_differs_scrolling_a_third_time_brings_no_warning(env: Environment) -> None:
    # MLGym advises to search instead; it is a hint for people who read along, not a change.
    env.step("open long.txt")
    said = [env.sandbox.call("scroll_down", []).output.split("\n")[0] for _ in range(4)]
    assert set(said) == {f"[File: {WORKSPACE}/long.txt (3000 lines total)]"}


def test_1_7_create_writes_one_newline_and_opens(env: Environment) -> None:
    assert see(env, "create new.txt") == [f"[File: {WORKSPACE}/new.txt (1 lines total)]", "1:"]
    assert read(env, "new.txt") == "\n" and env.state()["open_file"] == f"{WORKSPACE}/new.txt"


def test_1_7_create_on_an_existing_file_opens_it(env: Environment) -> None:
    told = see(env, "create three.txt")
    assert "exists already" in told[0] and told[2] == "1:1" and read(env, "three.txt") == "1\n2\n3\n"


@pytest.mark.parametrize(("action", "said"), [
    ("goto 2", "No file is open"), ("scroll_down", "No file is open"), ("search_file x", "No file is open"),
    ("edit 1:1\nx\nend_of_edit", "No file is open"), ("insert 0\nx\nend_of_insert", "No file is open"),
])
def test_1_7_without_an_open_file_the_commands_say_so(tmp_path: Path, action: str, said: str) -> None:
    with Environment(load_duel(tmp_path), SANDBOX) as env:
        env.reset()
        assert env.state()["open_file"] in ("", "n/a") and said in env.step(action)[0]


def test_1_7_search_dir_counts_by_file_and_search_file_shows_lines(env: Environment) -> None:
    env.step("mkdir sub; printf 'needle\\nhay\\nneedle' > sub/a.txt; echo needle > b.txt; echo needle > .hidden")
    assert see(env, "search_dir needle")[1:] == [f"{WORKSPACE}/b.txt (1 lines)", f"{WORKSPACE}/sub/a.txt (2 lines)"]
    assert see(env, "search_dir needle sub")[1:] == [f"{WORKSPACE}/sub/a.txt (2 lines)"]
    assert see(env, "search_file needle sub/a.txt")[1:] == ["1:needle", "3:needle"]
    env.step("open sub/a.txt")
    assert see(env, "search_file 'hay'")[1:] == ["2:hay"]


def test_1_7_find_file_takes_a_name_or_a_pattern(env: Environment) -> None:
    env.step("mkdir -p sub/deep; touch sub/deep/one.py sub/two.py")
    assert see(env, "find_file two.py")[1:] == [f"{WORKSPACE}/sub/two.py"]
    assert see(env, "find_file '*.py' sub")[1:] == [f"{WORKSPACE}/sub/deep/one.py", f"{WORKSPACE}/sub/two.py"]


@pytest.mark.parametrize(("make", "action"), [
    ("for i in $(seq {n}); do echo needle > f$i; done", "search_dir needle"),
    ("yes needle | head -{n} > hay", "search_file needle hay"),
    ("for i in $(seq {n}); do : > f$i.md; done", "find_file *.md"),
])
def test_1_7_more_than_100_hits_are_refused(env: Environment, make: str, action: str) -> None:
    env.step(make.format(n=100))
    assert len(see(env, action)) == 101
    env.step(make.format(n=101))
    assert len(see(env, action)) == 1 and "101" in env.step(action)[0]


def test_1_7_edit_replaces_lines_inclusively_and_shows_the_window(env: Environment) -> None:
    told = see(env, "open three.txt\nedit 2:3\ntwo\n  and more\nend_of_edit")
    assert read(env, "three.txt") == "1\ntwo\n  and more\n"
    assert told[4:8] == [f"[File: {WORKSPACE}/three.txt (3 lines total)]", "1:1", "2:two", "3:  and more"]


def test_1_7_edit_and_insert_take_any_text(env: Environment) -> None:
    text = "$HOME `id` $(id) \\n 'a\" {x}\n\n  ```\n<<EOF\nend_of_edit_not\nñ \\"
    env.step(f"open three.txt\nedit 1:3\n{text}\nend_of_edit")
    assert read(env, "three.txt") == text + "\n"
    env.step(f"insert 0\n{text}\nend_of_insert")
    assert read(env, "three.txt") == f"{text}\n{text}\n"


@pytest.mark.parametrize(("line", "expected"), [(0, "x\n1\n2\n3\n"), (2, "1\n2\nx\n3\n"), (3, "1\n2\n3\nx\n")])
def test_1_7_insert_puts_text_after_a_line(env: Environment, line: int, expected: str) -> None:
    env.step(f"open three.txt\ninsert {line}\nx\nend_of_insert")
    assert read(env, "three.txt") == expected


@pytest.mark.parametrize("action", ["edit 3:2\nx\nend_of_edit", "edit 0:1\nx\nend_of_edit", "edit 2:9\nx\nend_of_edit",
                                    "edit 2\nx\nend_of_edit", "edit a:b\nx\nend_of_edit", "edit\nx\nend_of_edit",
                                    "insert 9\nx\nend_of_insert", "insert\nx\nend_of_insert", "edit 1:1\nx",
                                    "insert 1\nx"])
def test_1_7_a_malformed_edit_changes_nothing_and_is_explained(env: Environment, action: str) -> None:
    env.step("open three.txt")
    said = env.step(action)[0]
    assert read(env, "three.txt") == "1\n2\n3\n" and ("`edit " in said or "There " in said or "Write " in said)


@pytest.mark.skipif(not CONFINED, reason="whoever runs the tests may write any file of a bare session")
def test_1_7_edit_refuses_a_file_that_cannot_be_written(env: Environment) -> None:
    env.step("chmod 444 three.txt")
    assert "Permission denied" in env.step("open three.txt\nedit 1:1\nx\nend_of_edit")[0]
    assert read(env, "three.txt") == "1\n2\n3\n"


def test_1_7_differs_text_before_an_edit_in_one_action_is_run_by_the_shell(env: Environment) -> None:
    # In MLGym it becomes part of the here-document and corrupts the edit.
    said = env.step("echo first\nopen three.txt\nedit 1:1\none\nend_of_edit\necho last")[0].split("\n")
    assert (said[0], said[-1]) == ("first", "last") and read(env, "three.txt") == "one\n2\n3\n"


def test_1_7_differs_two_inserts_in_one_action_are_two(env: Environment) -> None:
    # In MLGym the second one's text is corrupted.
    env.step("open three.txt\ninsert 0\na\nend_of_insert\ninsert 2\nb\nend_of_insert\nedit 1:1\nA\nend_of_edit")
    assert read(env, "three.txt") == "A\n1\nb\n2\n3\n"


def test_1_7_a_command_named_inside_a_here_document_is_text(env: Environment) -> None:
    env.step("cat > note <<'EOF'\nedit 1:1\nx\nend_of_edit\nsubmit\nvalidate\nEOF")
    assert read(env, "note") == "edit 1:1\nx\nend_of_edit\nsubmit\nvalidate\n" and not env.done


def test_1_7_a_changed_file_is_seen_by_the_shell_and_the_shells_by_the_editor(env: Environment) -> None:
    env.step("create a.py\nedit 1:1\nprint(6 * 7)\nend_of_edit")
    assert env.step("python a.py")[0] == "42"
    env.step("echo 'print(1)' > a.py")
    assert see(env, "goto 1")[1] == "1:print(1)"


def test_1_7_differs_blank_lines_and_progress_bars_of_an_output_stay(env: Environment) -> None:
    # MLGym drops both from every output.
    bar = " 50%|#####     | 1/2 [00:00<00:00]"
    assert env.step(f"printf 'a\\n\\n%s\\nb\\n' '{bar}'")[0] == f"a\n\n{bar}\nb"


def test_1_7_errors_are_part_of_the_output_in_their_order(env: Environment) -> None:
    assert env.step("echo 1; echo 2 >&2; echo 3; false")[0] == "1\n2\n3"


def test_1_7_what_the_shell_knows_lasts_and_the_state_says_where_it_is(env: Environment) -> None:
    env.step("export A=1; b=2; f() { echo $A$b$1; }; mkdir d; cd d")
    assert env.step("f 3")[0] == "123" and env.state()["working_dir"] == f"{WORKSPACE}/d"

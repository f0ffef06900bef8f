"""The session inside a sandbox: the shell that lives on, its time limit, its output, and the editor."""

import shutil
from collections.abc import Iterator

import pytest

from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Sandbox, open_sandbox

HANG_S = 300
BACKENDS = ["process", *(["bwrap"] if shutil.which("bwrap") else [])]


@pytest.fixture(scope="module", params=BACKENDS)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    params = SandboxParams(backend=request.param, warm=False, output_kb=64, file_mb=2)
    with open_sandbox(tmp_path_factory.mktemp("workspace"), params) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def at_home(session: Sandbox) -> None:
    session.run("cd /home/agent/workspace; rm -rf ./*", HANG_S)


def run(session: Sandbox, command: str, timeout_s: float = HANG_S) -> str:
    return session.run(command, timeout_s).output


def test_the_shell_lives_on(session: Sandbox) -> None:
    run(session, "mkdir sub; cd sub; x=5; greet() { echo hello $1; }")
    assert run(session, "echo $x; greet you; pwd") == "5\nhello you\n/home/agent/workspace/sub\n"
    assert session.state() == {"open_file": "n/a", "working_dir": "/home/agent/workspace/sub"}
    run(session, "false")
    assert run(session, "echo $?") == "1\n"


def test_a_command_that_reads_stdin_gets_none(session: Sandbox) -> None:
    assert session.run("cat", HANG_S).exit_code == 0
    assert run(session, "read line || echo empty") == "empty\n"
    assert run(session, "cat <<EOF\none\nEOF") == "one\n"


@pytest.mark.parametrize("command, code", [("echo out; exit 3", 3), ("exec sh -c 'echo out; exit 4'", 4),
                                           ("echo out; set -e; false", 1), ("echo out; kill -9 $$", -9)])
def test_a_shell_that_ends_is_replaced(session: Sandbox, command: str, code: int) -> None:
    run(session, "mkdir kept; cd kept")
    result = session.run(command, HANG_S)
    assert result.exit_code == code
    assert result.output.startswith("out\n(the shell ended")
    assert run(session, "pwd; ls ..") == "/home/agent/workspace/kept\nkept\n"


def test_a_syntax_error_is_an_output(session: Sandbox) -> None:
    result = session.run("if", HANG_S)
    assert "syntax error" in result.output
    assert result.exit_code
    assert run(session, "nonesuch") == "bash: line 1: nonesuch: command not found\n"


def test_a_timeout_keeps_the_output_and_ends_every_process(session: Sandbox) -> None:
    run(session, "mkdir deep; cd deep; mkfifo up")
    daemon = "trap '' TERM HUP; (setsid sh -c 'echo >up; while :; do sleep 77.7; done' &); read <up"
    run(session, daemon)
    result = session.run("sleep 77.7 & echo part; sleep 77.7", 1)
    assert (result.output, result.exit_code, result.timed_out) == ("part\n", None, True)
    assert run(session, "pwd; pgrep -f 'sleep 77.7' | wc -l") == "/home/agent/workspace/deep\n0\n"


def test_a_busy_shell_is_ended_too(session: Sandbox) -> None:
    assert session.run("while :; do :; done", 1).timed_out
    assert run(session, "echo back") == "back\n"


def test_a_job_in_the_background_does_not_hold_the_action(session: Sandbox) -> None:
    result = session.run("(while sleep 0.01; do echo tick; done) & echo started", HANG_S)
    assert "started" in result.output
    assert not result.timed_out
    run(session, "kill %1")


def test_long_output_keeps_head_and_tail(session: Sandbox) -> None:
    output = run(session, "seq 1 100000")
    assert output.startswith("1\n2\n")
    assert output.endswith("99999\n100000\n")
    total = sum(len(str(number)) + 1 for number in range(1, 100001))
    assert f"[... {total - 65536} bytes of output left out ...]" in output
    assert run(session, "seq 1 10000") == "".join(f"{n}\n" for n in range(1, 10001))


def test_output_is_plain_text(session: Sandbox) -> None:
    assert run(session, r"printf '\e[31mred\e[0m \e]0;title\a 10%%\r 20%%\r\n\x00\x07bad\xff\n'") == " 20%\nbad\ufffd\n"


def test_files_have_a_limit(session: Sandbox) -> None:
    assert session.run("head -c 3000000 /dev/zero > big", HANG_S).exit_code != 0
    assert run(session, "stat -c %s big") == f"{2 << 20}\n"


def number(count: int) -> str:
    return "".join(f"line {n}\n" for n in range(1, count + 1))


def write(session: Sandbox, name: str, text: str) -> None:
    (session.workspace / name).write_text(text)


def test_the_editor_shows_a_window(session: Sandbox) -> None:
    write(session, "long.txt", number(2500))
    lines = session.call("open", ["long.txt"]).output.split("\n")
    assert lines[0] == "[File: /home/agent/workspace/long.txt (2500 lines total)]"
    assert (lines[1], lines[1000], lines[-1]) == ("1:line 1", "1000:line 1000", "(1500 more lines below)")
    assert session.state()["open_file"] == "/home/agent/workspace/long.txt"
    lines = session.call("scroll_down", []).output.split("\n")
    assert (lines[1], lines[2]) == ("(998 more lines above)", "999:line 999")
    lines = session.call("goto", ["2000"]).output.split("\n")
    assert lines[2] == "1501:line 1501"
    assert session.call("scroll_up", []).output.split("\n")[2] == "503:line 503"
    assert "(833 more lines above)" in session.call("open", ["long.txt", "1000"]).output


def test_the_editor_changes_files(session: Sandbox) -> None:
    assert session.call("create", ["new.py"]).exit_code == 0
    assert "exists already" in session.call("create", ["new.py"]).output
    session.call("edit", ["1:1"], "a = 1\nb = 2")
    session.call("insert", ["1"], "middle = 3")
    session.call("insert", ["0"], "# top")
    assert (session.workspace / "new.py").read_text() == "# top\na = 1\nmiddle = 3\nb = 2\n"
    assert session.call("edit", ["2:3"], "").output.endswith("1:# top\n2:b = 2\n(the file was changed)")


def test_an_edit_that_breaks_python_is_not_made(session: Sandbox) -> None:
    write(session, "code.py", "def f():\n    return 1\n")
    session.call("open", ["code.py"])
    result = session.call("edit", ["2:2"], "    return (1")
    assert result.exit_code == 1
    assert "line 2: E999 '(' was never closed" in result.output
    assert "2:    return (1\n" in result.output
    assert result.output.endswith("2:    return 1")
    assert (session.workspace / "code.py").read_text() == "def f():\n    return 1\n"
    write(session, "code.py", "def f(:\n    return 1\n")
    assert session.call("edit", ["2:2"], "    return 2").exit_code == 0


def test_an_edit_that_has_no_room_leaves_the_file(session: Sandbox) -> None:
    write(session, "big.txt", "small\n")
    session.call("open", ["big.txt"])
    assert "too large" in session.call("edit", ["1:1"], "x" * (3 << 20)).output
    assert session.call("edit", ["1:1"], "\ud800").exit_code == 1
    assert (session.workspace / "big.txt").read_text() == "small\n"


def test_the_editor_searches(session: Sandbox) -> None:
    (session.workspace / "sub").mkdir()
    write(session, "sub/a.py", "needle\nhay\nneedle\n")
    write(session, "b.txt", "hay needle\n")
    found = session.call("search_dir", ["needle"]).output.split("\n")
    assert found[1:] == ["/home/agent/workspace/b.txt (1 lines)", "/home/agent/workspace/sub/a.py (2 lines)"]
    assert session.call("search_file", ["needle", "sub/a.py"]).output.split("\n")[1:] == ["1:needle", "3:needle"]
    assert "/home/agent/workspace/sub/a.py" in session.call("find_file", ["*.py"]).output
    assert session.call("search_dir", ["nonesuch"]).exit_code == 1


@pytest.mark.parametrize("name, args, text, said", [
    ("open", ["missing"], None, "No such file"), ("open", ["."], None, "is a folder"),
    ("open", ["pipe"], None, "not a regular file"), ("open", ["two.txt", "x"], None, "not a line number"),
    ("open", [], None, "open <path> [<line>]"), ("goto", ["9"], None, "the file has 2"),
    ("edit", ["2:5"], "x", "the file has 2"), ("edit", ["2"], "x", "edit <first>:<last>"),
    ("edit", ["1:1"], None, "end_of_edit"), ("fly", [], None, "no command"),
])
def test_the_editor_says_what_is_wrong(session: Sandbox, name: str, args: list[str], text: str | None,
                                       said: str) -> None:
    run(session, "mkfifo pipe")
    write(session, "two.txt", number(2))
    session.call("open", ["two.txt"])
    result = session.call(name, args, text)
    assert result.exit_code == 1
    assert said in result.output


def test_a_session_that_breaks_is_replaced(session: Sandbox) -> None:
    write(session, "kept", "")
    session._process.kill()
    session._process.wait()
    result = session.run("echo lost", HANG_S)
    assert (result.exit_code, result.timed_out) == (None, False)
    assert "a new one was started" in result.output
    assert run(session, "ls") == "kept\n"


def test_the_session_is_out_of_reach_inside(session: Sandbox) -> None:
    if session.params.backend == "process":
        pytest.skip("isolates nothing")
    run(session, "kill -9 1; kill -STOP 1; kill -INT 1")
    assert run(session, "for fd in 0 1 2 3 4; do echo x >/proc/1/fd/$fd; done").count("Permission denied") == 5
    assert run(session, "echo still here") == "still here\n"

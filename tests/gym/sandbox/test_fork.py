"""An environment can be forked at a step, and a reset of the same seed is the same."""

import shutil
from pathlib import Path

import pytest
from kits.checkout_kit import write_checkout

from synthkit.core.params import SandboxParams
from synthkit.gym.environment import Environment
from synthkit.gym.task import Task

BACKENDS = ["process", *(["bwrap"] if shutil.which("bwrap") else [])]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return Task.load(write_checkout(tmp_path_factory.mktemp("checkout")), "battleOfSexes")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fork_goes_on_from_the_same_point_and_apart(task: Task, backend: str) -> None:
    with Environment(task, SandboxParams(backend=backend, warm=False), max_steps=20) as env:
        env.reset()
        env.step("mkdir deep; cd deep; echo one > f; ln -s f g; x=7; export Y='a b'; h() { echo \"h $1\"; }; "
                 "alias k='echo k'; set -o pipefail; echo kept > ~/note")
        env.step("open ../strategy.py")
        env.step("validate")
        with env.fork() as forked:
            assert (forked.steps_taken, forked.scores, forked.state()) == (3, env.scores, env.state())
            seen = "cat f g ~/note; echo $x $Y; h 2; pwd; set -o | grep pipefail; ls -a .."
            assert forked.step(seen)[0] == env.step(seen)[0]
            assert forked.step("cat f g ~/note; echo $x $Y; h 2")[0] == "one\none\nkept\n7 a b\nh 2"
            forked.step("echo two > f; sed -i 's/return 1/return len(history) % 2/' ../strategy.py")
            assert env.step("cat f")[0] == "one"
            forked.step("submit")
            env.step("submit")
        assert (forked.scores[-1], env.scores[-1]) == ({"Score": 1.0}, {"Score": 0.5})
        with pytest.raises(RuntimeError):
            env.fork()


@pytest.mark.parametrize("backend", BACKENDS)
def test_resets_of_one_seed_are_the_same(task: Task, backend: str) -> None:
    actions = ["ls -lA --time-style=full-iso", "echo $RANDOM $RANDOM", "python -c 'print(hash(\"a\"))'",
               "open strategy.py", "validate", "find . -printf '%p %s %m %t\\n'"]
    with Environment(task, SandboxParams(backend=backend, warm=False), max_steps=20) as env:
        first = [env.reset(seed=3)[0], *(env.step(action)[0] for action in actions)]
        env.step("rm -r strategy.py; echo x > new; cd /")
        again = [env.reset(seed=3)[0], *(env.step(action)[0] for action in actions)]
        other = [env.reset(seed=4)[0], *(env.step(action)[0] for action in actions)]
    assert first == again
    assert first[2] != other[2]


def test_a_workspace_that_is_too_large_is_not_forked(task: Task, tmp_path: Path) -> None:
    with Environment(task, SandboxParams(backend=BACKENDS[-1], warm=False, disk_mb=2), max_steps=9) as env:
        env.reset()
        (env.workspace / "big").write_bytes(bytes(3 << 20))
        with pytest.raises(Exception, match="too large"):
            env.fork()
        assert env.step("echo alive; ls -a | grep -c synthkit")[0] == "alive\n0"

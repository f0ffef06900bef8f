"""Episodes that an interruption does not lose: saved after each step, and taken up again where they were.

The saved actions are played again in a new environment, without asking the model, and the episode goes on after them.
Where the environment then answers something else (a time, an address in memory), what was saved is kept aside and the
episode starts anew; what it cost stays in the ledger, and replies that came are not paid for again.
"""

from collections.abc import Callable
from pathlib import Path

from synthkit.core.errors import RecordError, SandboxDied
from synthkit.core.executor import raise_if_stopped
from synthkit.gym.episode import Diverged, Save
from synthkit.gym.trajectory import Trajectory

Play = Callable[[Trajectory | None, Save], Trajectory]
DEAD = "(early_exit)"


def play_or_go_on(folder: Path, model: str, seed: int, play: Play) -> Trajectory:
    """The trajectory of an episode whose files lie in `folder`, from as far as it had come; it is saved there.

    `play(saved, save)` plays it. Raises SandboxDied when its sandbox died, which is not the model's doing,
    CancelledError between two steps when the stage is being stopped, and whatever `play` raises.
    """
    saved = find_saved(folder, model, seed)
    if saved is not None and saved.exit_status:
        return saved

    def save(trajectory: Trajectory) -> None:
        trajectory.save(folder)
        raise_if_stopped()

    try:
        trajectory = play(saved, save)
    except Diverged:
        set_aside(folder)
        trajectory = play(None, save)
    if DEAD in trajectory.exit_status:
        raise SandboxDied(f"the sandbox of {trajectory.task_id} died in step {len(trajectory.steps)}")
    trajectory.save(folder)
    return trajectory


def find_saved(folder: Path, model: str, seed: int) -> Trajectory | None:
    """What was saved of this very episode; anything else that lies there is kept aside."""
    if not any(folder.glob("*.traj")):
        return None
    try:
        saved = Trajectory.load(folder)
    except RecordError:
        saved = None
    if saved is None or (saved.model, saved.seed) != (model, seed) or len(saved.step_usage) != len(saved.steps):
        set_aside(folder)
        return None
    return saved


def set_aside(folder: Path) -> None:
    """Rename a folder to the first free name `<name>.aside-<n>`."""
    number = 1
    while (target := folder.with_name(f"{folder.name}.aside-{number}")).exists():
        number += 1
    folder.rename(target)

"""A run's episodes for others: as MLGym's run folders, which its own scripts find, or as ATIF documents.

MLGym looks for folders named `<model>__<task>__<pattern>...`, each with a .traj and a results.json (its
scripts/evaluation/get_ranks.py; give it `--traj_pattern synthkit_run`).
"""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synthkit.core.errors import StageError
from synthkit.export.selection import require_empty
from synthkit.gym.trajectory import Trajectory
from synthkit.gym.trajectory.atif import write_atif

Format = Literal["mlgym", "atif"]
STAGES = {"05": "05_trajectories", "07": "07_mlgym_eval"}


@dataclass(frozen=True)
class Episode:
    """Where an episode lies; `number` is that of the rollout (stage 05) or the run (stage 07)."""

    model: str
    task: str
    number: str
    folder: Path

    @property
    def name(self) -> str:
        """The episode's folder or file in an export, by MLGym's pattern."""
        # A slash in a model's name would make a folder of its own, as it does in MLGym.
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', self.model)}__{self.task}__synthkit_run_{self.number}"


def export_trajectories(run_dir: Path, stage: str, form: Format, out: Path) -> int:
    """Write every episode of a stage (05 or 07) into an empty folder; returns how many.

    Raises StageError when the stage has none, TaskError when the folder is not empty.
    """
    require_empty(out)
    episodes = list(find_episodes(run_dir / STAGES[stage] / "trajectories"))
    if not episodes:
        raise StageError(f"{run_dir} holds no episodes of stage {stage}", "run that stage first")
    out.mkdir(parents=True, exist_ok=True)
    for episode in episodes:
        if form == "mlgym":
            shutil.copytree(episode.folder, out / episode.name)
        else:
            document = write_atif(Trajectory.load(episode.folder))
            (out / f"{episode.name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return len(episodes)


def find_episodes(folder: Path) -> Iterator[Episode]:
    """Every folder with a .traj below one.

    The model is the folder's name in stage 07 (<model>/<task>/<run>), and the one that the file names in stage 05.
    """
    for path in sorted(folder.rglob("*.traj")):
        trajectory = Trajectory.load(path.parent)
        parts = path.parent.relative_to(folder).parts
        model = parts[0] if len(parts) == 3 else trajectory.model
        yield Episode(model, trajectory.task_id, parts[-1], path.parent)

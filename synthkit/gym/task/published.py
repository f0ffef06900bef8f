"""What MLGym's own tasks do not say in their files: metric, direction, and which files are not the agent's.

Facts of MLGym v0.1.1 (mlgym/evaluation/utils.py, the task files, and runs of them). Tasks of a user's own that lie in
the same checkout can be given the same by `Task.load(..., secret_files=, fixed_files=)`.
"""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Published:
    """`secret`: labels that MLGym leaves readable. `fixed`: shown, and scored as they were. Paths or ends of paths.

    `timed`: the metric is the submission's own time, so it is evaluated in the evaluation's process.
    """

    metric: str
    direction: Direction
    secret: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    timed: bool = False


PUBLISHED: dict[str, Published] = {
    "3SATTime": Published("Time", "minimize", timed=True),
    "battleOfSexes": Published("Score", "maximize", fixed=("target.py",)),
    "blotto": Published("Score", "maximize", fixed=("target.py",)),
    "imageCaptioningCOCO": Published("BLEU Score", "maximize"),
    "imageClassificationCifar10": Published("accuracy", "maximize"),
    "imageClassificationFMnist": Published("accuracy", "maximize"),
    "languageModelingFineWeb": Published("val_loss", "minimize"),
    "naturalLanguageInferenceMNLI": Published("validation_accuracy", "maximize"),
    "prisonersDilemma": Published("Score", "maximize", fixed=("target.py",)),
    "regressionKaggleHousePrice": Published("r2", "maximize", secret=("answer.csv",)),
    "rlBreakoutMinAtar": Published("Reward Mean", "maximize"),
    "rlMetaMazeMisc": Published("Reward Mean", "maximize"),
    "rlMountainCarContinuous": Published("Reward Mean", "maximize"),
    "titanicSurvival": Published("accuracy", "maximize", secret=("ground_truth.csv",)),
}

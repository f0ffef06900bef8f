"""Stage 06: fine-tune the student on the teacher's kept trajectories, with loss on its own words only.

The same code trains Qwen3-4B and a one-million-parameter Qwen3 from scratch; only `model` or
`from_scratch` in the parameters differs. Source of the stage: paper, section on SFT; optimizer,
rate, epochs, batch and loss mask are not disclosed there and are parameters with our own defaults.
"""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.core.errors import StageError
from synthkit.core.files import read_records
from synthkit.core.progress import Progress, show_progress
from synthkit.core.stage import Stage, under_lock
from synthkit.records import SftExample, TrainingStep
from synthkit.stages.common.funnel import Funnel
from synthkit.stages.sft.examples import check_mask, show_row
from synthkit.stages.sft.student import build_student
from synthkit.stages.sft.training import (
    LOG,
    build_trainer,
    count_steps,
    find_checkpoint,
    note_step,
    params_of,
    save_base,
    save_student,
)

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase


def load_inputs(stage: Stage) -> list[SftExample]:
    """The kept trajectories of stage 05; none at all is an error, since there is nothing to learn from."""
    rows = read_records(stage.input("05_trajectories") / "sft.jsonl", SftExample)
    if not rows:
        raise StageError(
            "05_trajectories kept no trajectory, so there is nothing to train on",
            "look at 05_trajectories/refused.jsonl; raise per_task or max_tokens, then run stage 05 again",
        )
    return rows


def show_prompt(stage: Stage, row: SftExample) -> list[dict[str, str]]:
    """The conversation of one row, as the model is trained on it."""
    return row.to_chat()


@under_lock
def preview(stage: Stage, n: int = 1) -> "list[pd.DataFrame]":
    """The first `n` rows by turn: how many tokens each has, and how many of them carry loss. Nothing is written."""
    _, tokenizer = prepare_student(stage)
    return [show_row(row, tokenizer, params_of(stage).max_length) for row in load_inputs(stage)[:n]]


def prepare_student(stage: Stage) -> "tuple[Any, PreTrainedTokenizerBase]":
    """Model and tokenizer before training. Deterministic, so the notebook may look at it before the run."""
    texts = ("\n".join(message.content for message in row.messages) for row in load_inputs(stage))
    return build_student(params_of(stage), texts)


@under_lock
def run(stage: Stage, progress: Progress | None = None) -> Path:
    """Train and save `base/` and `student/`. A finished student is kept; a cut-off training resumes its checkpoint."""
    student_dir = stage.dir / "student"
    if (student_dir / "config.json").exists():
        shutil.rmtree(stage.dir / "checkpoints", ignore_errors=True)
        return student_dir
    stage.reopen()
    params, rows = params_of(stage), load_inputs(stage)
    model, tokenizer = prepare_student(stage)
    check_mask(rows, tokenizer, params.max_length)
    save_base(stage, model, tokenizer)
    steps = count_steps(params, len(rows))
    checkpoint, done = find_checkpoint(stage)
    with show_progress(progress, steps, done) as advance:
        trainer = build_trainer(stage, model, tokenizer, rows, advance)
        started = time.monotonic()
        result = trainer.train(resume_from_checkpoint=checkpoint)
        seconds = time.monotonic() - started
    note_step(stage, TrainingStep(step=result.global_step, train_loss=result.training_loss, seconds=round(seconds, 1)))
    save_student(stage, trainer, tokenizer)
    shutil.rmtree(stage.dir / "checkpoints", ignore_errors=True)
    return student_dir


def read_log(stage: Stage) -> "pd.DataFrame":
    """The learning curve: step, epoch, loss, learning_rate, mean_token_accuracy."""
    import pandas as pd

    steps = [step for step in read_records(stage.dir / LOG, TrainingStep) if step.loss is not None]
    rows = [step.model_dump(exclude={"train_loss", "seconds"}) for step in steps]
    return pd.DataFrame(rows).drop_duplicates("step", keep="last").reset_index(drop=True)


def funnel(stage: Stage) -> Funnel:
    """Examples in, and trained on: all of them are."""
    rows = len(load_inputs(stage))
    return Funnel(rows, rows, {}, {})


def check(stage: Stage) -> None:
    """The training must have lowered the loss, and the saved student must exist."""
    log = read_log(stage)
    if not (stage.dir / "student" / "config.json").exists():
        raise StageError("06_sft: no student was saved", "run the stage again; it goes on from its checkpoint")
    if len(log) > 3 and not log["loss"].iloc[-1] < log["loss"].iloc[0]:
        raise StageError(
            f"06_sft: the loss did not fall ({log['loss'].iloc[0]:.3f} to {log['loss'].iloc[-1]:.3f})",
            "lower sft.learning_rate or look at the training rows",
        )


@under_lock
def finish(stage: Stage) -> dict[str, Any]:
    """Write the completion record: examples trained on, last loss and token accuracy, seconds of training."""
    rows, log = load_inputs(stage), read_log(stage)
    end = read_records(stage.dir / LOG, TrainingStep)[-1]
    metrics = {
        "rows": len(rows), "steps": end.step, "train_seconds": end.seconds,
        "first_loss": float(log["loss"].iloc[0]), "last_loss": float(log["loss"].iloc[-1]),
        "last_token_accuracy": float(log["mean_token_accuracy"].iloc[-1]),
    }
    return funnel(stage).finish(stage, metrics)

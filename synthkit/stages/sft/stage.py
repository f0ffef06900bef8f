"""Stage 06: fine-tune the student on the teacher's kept trajectories, with loss on its own words only.

The same code trains Qwen3-4B and a one-million-parameter Qwen3 from scratch; only `model` or
`from_scratch` in the parameters differs. Source of the stage: paper, section on SFT; optimizer,
rate, epochs, batch and loss mask are not disclosed there and are parameters with our own defaults.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from synthkit.core.errors import StageError
from synthkit.core.files import append_record, read_records, write_text
from synthkit.core.params import SftParams
from synthkit.core.progress import Progress, show_progress
from synthkit.core.stage import Stage, under_lock
from synthkit.stages.sft.student import build_student

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

STATE = "trainer_state.json"
WORLD = int(os.environ.get("WORLD_SIZE", "1"))
FIELDS = {"loss": "loss", "learning_rate": "learning_rate", "mean_token_accuracy": "mean_token_accuracy"}


class Message(BaseModel):
    role: str
    content: str


class Row(BaseModel, extra="ignore"):
    """One kept trajectory as a training row."""

    id: str
    task_id: str
    messages: list[Message] = Field(min_length=2)
    n_tokens: int = 0


def load_inputs(stage: Stage) -> list[Row]:
    """The kept trajectories of stage 05; none at all is an error, since there is nothing to learn from."""
    rows = read_records(stage.input("05_trajectories") / "sft.jsonl", Row)
    if not rows:
        raise StageError(
            "05_trajectories kept no trajectory, so there is nothing to train on",
            "look at 05_trajectories/refused.jsonl; raise per_task or max_tokens, then run stage 05 again",
        )
    return rows


def row_text(row: Row) -> str:
    return "\n".join(m.content for m in row.messages)


def as_messages(row: Row) -> list[dict[str, str]]:
    return [m.model_dump() for m in row.messages]


def show_prompt(stage: Stage, row: Row) -> list[dict[str, str]]:
    """The conversation of one row, as the model is trained on it."""
    return as_messages(row)


@under_lock
def preview(stage: Stage, n: int = 1) -> "list[pd.DataFrame]":
    """The first `n` rows by turn: how many tokens each has, and how many of them carry loss. Nothing is written."""
    _, tokenizer = prepare_student(stage)
    return [show_row(row, tokenizer, params_of(stage).max_length) for row in load_inputs(stage)[:n]]


def show_row(row: Row, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> "pd.DataFrame":
    """One training row by turn: tokens, and how many of them carry loss. What the model is taught, exactly."""
    import pandas as pd

    coded = encode(as_messages(row), tokenizer)
    kept = coded["mask"][:max_length]
    turns, start = [], 0
    for k, message in enumerate(as_messages(row)):
        end = len(encode(as_messages(row)[: k + 1], tokenizer)["ids"])
        turns.append({
            "turn": k, "role": message["role"], "tokens": end - start,
            "trained": sum(kept[start:end]), "begins": message["content"][:60],
        })
        start = end
    return pd.DataFrame(turns)


def encode(messages: list[dict], tokenizer: "PreTrainedTokenizerBase") -> dict[str, list[int]]:
    """Token ids of a conversation and the mask of those inside assistant turns."""
    out = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return {"ids": out["input_ids"], "mask": out["assistant_masks"]}


def prepare_student(stage: Stage) -> "tuple[Any, PreTrainedTokenizerBase]":
    """Model and tokenizer before training. Deterministic, so the notebook may look at it before the run."""
    return build_student(params_of(stage), (row_text(r) for r in load_inputs(stage)))


def params_of(stage: Stage) -> SftParams:
    assert isinstance(stage.params, SftParams)
    return stage.params


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
    append_record(stage.dir / "training_log.jsonl", {
        "step": result.global_step, "seconds": round(seconds, 1), "train_loss": result.training_loss,
    })
    save_student(stage, trainer, tokenizer)
    shutil.rmtree(stage.dir / "checkpoints", ignore_errors=True)
    return student_dir


def count_steps(params: SftParams, n_rows: int) -> int:
    """Optimizer steps of the whole training, as the trainer counts them."""
    batches = math.ceil(n_rows / (params.batch_size * WORLD))
    return math.ceil(max(1, math.ceil(batches / params.gradient_accumulation)) * params.epochs)


def find_checkpoint(stage: Stage) -> tuple[str | None, int]:
    """The newest checkpoint that is whole, and its step; (None, 0) to start from the beginning.

    The trainer writes its state last, so a folder without it is what a kill left of one.
    """
    whole = [path for path in (stage.dir / "checkpoints").glob("checkpoint-*") if is_json(path / STATE)]
    if not whole:
        return None, 0
    newest = max(whole, key=lambda path: int(path.name.removeprefix("checkpoint-")))
    return str(newest), int(newest.name.removeprefix("checkpoint-"))


def is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def check_mask(rows: list[Row], tokenizer: "PreTrainedTokenizerBase", max_length: int) -> None:
    """Every row must train something after it is cut to `max_length`, and never anything outside an assistant turn."""
    for row in rows:
        coded = encode(as_messages(row), tokenizer)
        if not any(coded["mask"][:max_length]):
            raise StageError(
                f"06_sft: row {row.id} has no assistant token within max_length={max_length}",
                "raise sft.max_length above the length of the task's first message",
            )


def build_trainer(stage: Stage, model: Any, tokenizer: Any, rows: list[Row], advance: Callable[[int], Any]) -> Any:
    """TRL's SFTTrainer with assistant-only loss, LoRA when asked for, and a log that we keep ourselves."""
    from datasets import Dataset
    from trl import SFTTrainer

    params = params_of(stage)
    data = Dataset.from_list([{"messages": as_messages(r)} for r in rows])
    trainer = SFTTrainer(
        model=model, args=trainer_config(stage, len(rows)), train_dataset=data, processing_class=tokenizer,
        peft_config=lora_config(params), callbacks=[log_callback(stage, advance)],
    )
    return trainer


def trainer_config(stage: Stage, n_rows: int) -> Any:
    import torch
    from trl import SFTConfig

    params, cuda = params_of(stage), torch.cuda.is_available()
    steps_an_epoch = max(1, n_rows // (params.batch_size * params.gradient_accumulation * WORLD))
    logged = max(1, steps_an_epoch // 8)
    # Saved where it is logged: the mean that is logged next does not begin anew in a training that was taken up again.
    saved = logged * math.ceil(max(20, steps_an_epoch) / logged)
    return SFTConfig(
        output_dir=str(stage.dir / "checkpoints"), max_length=params.max_length, assistant_only_loss=True,
        num_train_epochs=params.epochs, learning_rate=params.learning_rate,
        lr_scheduler_type="cosine", warmup_steps=max(1, round(0.05 * steps_an_epoch * params.epochs)),
        per_device_train_batch_size=params.batch_size, gradient_accumulation_steps=params.gradient_accumulation,
        train_sampling_strategy="group_by_length", max_grad_norm=1.0, weight_decay=0.01, adam_beta2=0.95,
        bf16=params.bf16, use_cpu=not cuda, activation_checkpointing=params.from_scratch is None,
        save_strategy="steps", save_steps=saved, save_total_limit=1,
        logging_steps=logged, logging_first_step=True, disable_tqdm=True, report_to="none",
        seed=params.seed, data_seed=params.seed, dataloader_pin_memory=cuda,
    )


def lora_config(params: SftParams) -> Any:
    if params.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=params.lora.r, lora_alpha=params.lora.alpha, lora_dropout=params.lora.dropout,
        target_modules="all-linear", task_type="CAUSAL_LM",
    )


def log_callback(stage: Stage, advance: Callable[[int], Any]) -> Any:
    """Each of the trainer's log lines becomes a record, so that the curve survives an interruption."""
    from transformers import TrainerCallback

    class Log(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kw: Any) -> None:
            row = {new: logs[old] for old, new in FIELDS.items() if logs and old in logs}
            if "loss" in row:
                path = stage.dir / "training_log.jsonl"
                append_record(path, {"step": state.global_step, "epoch": state.epoch, **row})

        def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            advance(1)

    return Log()


def save_base(stage: Stage, model: Any, tokenizer: Any) -> None:
    """The untrained from-scratch student is saved; a Hub model is only named, since the Hub keeps it."""
    folder = stage.dir / "base"
    folder.mkdir(parents=True, exist_ok=True)
    if params_of(stage).from_scratch is None:
        write_text(folder / "model_id.json", json.dumps({"model": params_of(stage).model}))
        return
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_student(stage: Stage, trainer: Any, tokenizer: Any) -> None:
    """Merge LoRA when there is one; a temporary folder is renamed at the end, so no half-written student is taken."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if params_of(stage).lora is not None:
        model = model.merge_and_unload()
    temporary = stage.dir / "student.part"
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    temporary.rename(stage.dir / "student")


def read_log(stage: Stage) -> "pd.DataFrame":
    """The learning curve: step, epoch, loss, learning_rate, mean_token_accuracy."""
    import pandas as pd

    rows = [r for r in read_records(stage.dir / "training_log.jsonl") if "loss" in r]
    return pd.DataFrame(rows).drop_duplicates("step", keep="last").reset_index(drop=True)


def funnel(stage: Stage) -> tuple[int, int, dict[str, int], dict[str, int]]:
    """(rows, rows trained on, lost by reason, owed by reason): every row is trained on."""
    rows = len(load_inputs(stage))
    return rows, rows, {}, {}


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
def finish(stage: Stage) -> dict:
    """Write the completion record: rows trained on, last loss and token accuracy, seconds of training."""
    rows, log = load_inputs(stage), read_log(stage)
    end = read_records(stage.dir / "training_log.jsonl")[-1]
    metrics = {
        "rows": len(rows), "steps": int(end["step"]), "train_seconds": end.get("seconds"),
        "first_loss": float(log["loss"].iloc[0]), "last_loss": float(log["loss"].iloc[-1]),
        "last_token_accuracy": float(log["mean_token_accuracy"].iloc[-1]),
    }
    requested, kept, lost, owed = funnel(stage)
    return stage.finish(requested, kept, lost, metrics, owed=owed)

"""Stage 06: fine-tune the student on the teacher's kept trajectories, with loss on its own words only.

The same code trains Qwen3-4B and a one-million-parameter Qwen3 from scratch; only `model` or
`from_scratch` in the parameters differs. Source of the stage: paper, section on SFT; optimizer,
rate, epochs, batch and loss mask are not disclosed there and are parameters with our own defaults.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from synthkit.core.errors import StageError
from synthkit.core.params import SftParams
from synthkit.core.records import append_record, read_records
from synthkit.core.runs import Stage
from synthkit.stages.student import build_student

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

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


def run(stage: Stage, progress: Callable[[str], None] | None = None) -> Path:
    """Train and save `base/` and `student/`. A finished student is kept; a cut-off training resumes its checkpoint."""
    student_dir = stage.dir / "student"
    if (student_dir / "config.json").exists():
        return student_dir
    params, rows = params_of(stage), load_inputs(stage)
    model, tokenizer = prepare_student(stage)
    check_mask(rows, tokenizer, params.max_length)
    save_base(stage, model, tokenizer)
    trainer = build_trainer(stage, model, tokenizer, rows, progress)
    checkpoints = sorted((stage.dir / "checkpoints").glob("checkpoint-*"))
    started = time.monotonic()
    result = trainer.train(resume_from_checkpoint=bool(checkpoints) or None)
    seconds = time.monotonic() - started
    save_student(stage, trainer, tokenizer)
    append_record(stage.dir / "training_log.jsonl", {
        "step": result.global_step, "seconds": round(seconds, 1), "train_loss": result.training_loss,
    })
    shutil.rmtree(stage.dir / "checkpoints", ignore_errors=True)
    return student_dir


def check_mask(rows: list[Row], tokenizer: "PreTrainedTokenizerBase", max_length: int) -> None:
    """Every row must train something after it is cut to `max_length`, and never anything outside an assistant turn."""
    for row in rows:
        coded = encode(as_messages(row), tokenizer)
        if not any(coded["mask"][:max_length]):
            raise StageError(
                f"06_sft: row {row.id} has no assistant token within max_length={max_length}",
                "raise sft.max_length above the length of the task's first message",
            )


def build_trainer(stage: Stage, model: Any, tokenizer: Any, rows: list[Row], progress: Callable | None) -> Any:
    """TRL's SFTTrainer with assistant-only loss, LoRA when asked for, and a log that we keep ourselves."""
    from datasets import Dataset
    from trl import SFTTrainer

    params = params_of(stage)
    data = Dataset.from_list([{"messages": as_messages(r)} for r in rows])
    trainer = SFTTrainer(
        model=model, args=trainer_config(stage, len(rows)), train_dataset=data, processing_class=tokenizer,
        peft_config=lora_config(params), callbacks=[log_callback(stage, progress)],
    )
    return trainer


def trainer_config(stage: Stage, n_rows: int) -> Any:
    import torch
    from trl import SFTConfig

    params, cuda = params_of(stage), torch.cuda.is_available()
    steps_an_epoch = max(1, n_rows // (params.batch_size * params.gradient_accumulation * WORLD))
    return SFTConfig(
        output_dir=str(stage.dir / "checkpoints"), max_length=params.max_length, assistant_only_loss=True,
        num_train_epochs=params.epochs, learning_rate=params.learning_rate,
        lr_scheduler_type="cosine", warmup_steps=max(1, round(0.05 * steps_an_epoch * params.epochs)),
        per_device_train_batch_size=params.batch_size, gradient_accumulation_steps=params.gradient_accumulation,
        train_sampling_strategy="group_by_length", max_grad_norm=1.0, weight_decay=0.01, adam_beta2=0.95,
        bf16=params.bf16, use_cpu=not cuda, activation_checkpointing=params.from_scratch is None,
        save_strategy="steps", save_steps=max(20, steps_an_epoch), save_total_limit=1,
        logging_steps=max(1, steps_an_epoch // 8), logging_first_step=True, disable_tqdm=True, report_to="none",
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


def log_callback(stage: Stage, progress: Callable[[str], None] | None) -> Any:
    """Each of the trainer's log lines becomes a record, so that the curve survives an interruption."""
    from transformers import TrainerCallback

    class Log(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kw: Any) -> None:
            row = {new: logs[old] for old, new in FIELDS.items() if logs and old in logs}
            if "loss" not in row:
                return
            append_record(stage.dir / "training_log.jsonl", {"step": state.global_step, "epoch": state.epoch, **row})
            if progress:
                progress(f"step {state.global_step}/{state.max_steps} loss {row['loss']:.3f}")

    return Log()


def save_base(stage: Stage, model: Any, tokenizer: Any) -> None:
    """The untrained from-scratch student is saved; a Hub model is only named, since the Hub keeps it."""
    folder = stage.dir / "base"
    folder.mkdir(parents=True, exist_ok=True)
    if params_of(stage).from_scratch is None:
        (folder / "model_id.json").write_text(json.dumps({"model": params_of(stage).model}))
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


def finish(stage: Stage) -> dict:
    """Write the completion record: rows trained on, last loss and token accuracy, seconds of training."""
    rows, log = load_inputs(stage), read_log(stage)
    end = read_records(stage.dir / "training_log.jsonl")[-1]
    metrics = {
        "rows": len(rows), "steps": int(end["step"]), "train_seconds": end.get("seconds"),
        "first_loss": float(log["loss"].iloc[0]), "last_loss": float(log["loss"].iloc[-1]),
        "last_token_accuracy": float(log["mean_token_accuracy"].iloc[-1]),
    }
    return stage.finish(requested=len(rows), kept=len(rows), lost={}, metrics=metrics)

"""The training itself: TRL's trainer with its settings, its log, its checkpoints, and what it leaves."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthkit.core.files import append_record, write_text
from synthkit.core.params import SftParams
from synthkit.core.stage import Stage, params_as
from synthkit.records import SftExample, TrainingStep

STATE = "trainer_state.json"
LOG = "training_log.jsonl"
LOGGED = ("loss", "learning_rate", "mean_token_accuracy")
WORLD = int(os.environ.get("WORLD_SIZE", "1"))


def params_of(stage: Stage) -> SftParams:
    """The parameters of this stage."""
    return params_as(stage, SftParams)


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
    """Whether a file holds JSON as a whole."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def build_trainer(stage: Stage, model: Any, tokenizer: Any, rows: list[SftExample],
                  advance: Callable[[int], Any]) -> Any:
    """TRL's SFTTrainer with assistant-only loss, LoRA when asked for, and a log that we keep ourselves."""
    from datasets import Dataset
    from trl import SFTTrainer

    params = params_of(stage)
    data = Dataset.from_list([{"messages": row.to_chat()} for row in rows])
    trainer = SFTTrainer(
        model=model, args=trainer_config(stage, len(rows)), train_dataset=data, processing_class=tokenizer,
        peft_config=lora_config(params), callbacks=[log_callback(stage, advance)],
    )
    return trainer


def trainer_config(stage: Stage, n_rows: int) -> Any:
    """TRL's settings: AdamW, a cosine schedule after warming up for 5 % of all steps, logs and checkpoints by step."""
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
    """LoRA on all linear layers, or None for full fine-tuning."""
    if params.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=params.lora.r, lora_alpha=params.lora.alpha, lora_dropout=params.lora.dropout,
        target_modules="all-linear", task_type="CAUSAL_LM",
    )


def note_step(stage: Stage, step: TrainingStep) -> None:
    """Append a line to the training log, without the fields that it has not."""
    append_record(stage.dir / LOG, step.model_dump(exclude_none=True))


def log_callback(stage: Stage, advance: Callable[[int], Any]) -> Any:
    """Each of the trainer's log lines becomes a record, so that the curve survives an interruption."""
    from transformers import TrainerCallback

    class Log(TrainerCallback):  # type: ignore[misc]  # transformers is Any here.
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kw: Any) -> None:
            if logs and "loss" in logs:
                values = {name: logs.get(name) for name in LOGGED}
                note_step(stage, TrainingStep(step=state.global_step, epoch=state.epoch, **values))

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

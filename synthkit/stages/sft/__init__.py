"""Stage 06: the student, fine-tuned on the kept trajectories."""

from synthkit.stages.sft.stage import (
    Row,
    as_messages,
    check,
    encode,
    finish,
    funnel,
    load_inputs,
    prepare_student,
    preview,
    read_log,
    run,
    show_prompt,
    show_row,
)

__all__ = ["Row", "as_messages", "check", "encode", "finish", "funnel", "load_inputs", "prepare_student", "preview",
           "read_log", "run", "show_prompt", "show_row"]

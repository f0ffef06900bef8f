"""Stage 06: the student, fine-tuned on the kept trajectories."""

from synthkit.stages.sft.examples import encode, show_row
from synthkit.stages.sft.stage import (
    check,
    finish,
    funnel,
    load_inputs,
    prepare_student,
    preview,
    read_log,
    run,
    show_prompt,
)

__all__ = ["check", "encode", "finish", "funnel", "load_inputs", "prepare_student", "preview", "read_log", "run",
           "show_prompt", "show_row"]

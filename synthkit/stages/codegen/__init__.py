"""Stage 03: description, baseline and evaluation of each task, written by the teacher."""

from synthkit.stages.codegen.stage import (
    check,
    finish,
    funnel,
    load_drafts,
    load_inputs,
    preview,
    run,
    show_prompt,
)

__all__ = ["check", "finish", "funnel", "load_drafts", "load_inputs", "preview", "run", "show_prompt"]

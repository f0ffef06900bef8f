"""Stage 02: a real dataset for each topic, found, checked, pinned, and made into the files of a task."""

from synthkit.stages.datasets.stage import (
    check,
    finish,
    funnel,
    load_inputs,
    load_proposals,
    preview,
    run,
    show_prompt,
)

__all__ = ["check", "finish", "funnel", "load_inputs", "load_proposals", "preview", "run", "show_prompt"]

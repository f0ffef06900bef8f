"""Stage 01: machine-learning topics from the teacher, spread over a grid, without near-duplicates."""

from synthkit.stages.topics.stage import (
    check,
    finish,
    funnel,
    load_inputs,
    load_topics,
    preview,
    run,
    show_prompt,
)

__all__ = ["check", "finish", "funnel", "load_inputs", "load_topics", "preview", "run", "show_prompt"]

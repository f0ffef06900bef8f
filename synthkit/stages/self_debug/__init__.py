"""Stage 04: drafts put through gates, and repaired by the teacher until they pass or are refused."""

from synthkit.stages.self_debug.stage import (
    check,
    count_gates,
    finish,
    funnel,
    load_attempts,
    load_inputs,
    load_verified,
    preview,
    run,
    show_prompt,
)

__all__ = ["check", "count_gates", "finish", "funnel", "load_attempts", "load_inputs", "load_verified", "preview",
           "run", "show_prompt"]

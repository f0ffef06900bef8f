"""Stage 07: base, student and teacher on a held-out benchmark, compared by AUP."""

from synthkit.stages.mlgym_eval.results import aup, difference, scores
from synthkit.stages.mlgym_eval.stage import (
    check,
    finish,
    funnel,
    load_inputs,
    preview,
    run,
    show_prompt,
    trajectory_folder,
)

__all__ = ["aup", "check", "difference", "finish", "funnel", "load_inputs", "preview", "run", "scores", "show_prompt",
           "trajectory_folder"]

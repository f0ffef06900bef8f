"""Stage 05: the teacher's rollouts on the verified tasks, filtered into training examples."""

from synthkit.stages.trajectories.stage import (
    check,
    finish,
    funnel,
    load_inputs,
    load_rollouts,
    preview,
    run,
    show_prompt,
)

__all__ = ["check", "finish", "funnel", "load_inputs", "load_rollouts", "preview", "run", "show_prompt"]

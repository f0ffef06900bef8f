"""What a submission is worth: copied out, checked, and run against the answers in a sandbox of its own."""

from synthkit.gym.scoring.scoring import Score, find_submission, is_table, run_baseline, score_submission

__all__ = ["Score", "find_submission", "is_table", "run_baseline", "score_submission"]

"""The record of an episode, in MLGym's files; written as ATIF too, and played again."""

from synthkit.gym.trajectory.trajectory import Step, Trajectory, estimate_tokens

__all__ = ["Step", "Trajectory", "estimate_tokens"]

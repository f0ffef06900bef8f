"""synthkit: synthetic machine-learning tasks, teacher trajectories and a student, in seven notebooks."""

__version__ = "0.1.0"

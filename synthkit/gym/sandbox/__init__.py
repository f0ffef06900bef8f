"""Where code that a model wrote runs: a session in a sandbox, its workspace, and what is taken out of it again."""

from synthkit.gym.sandbox.sandbox import Result, Sandbox, list_uncovered, make_plain, open_sandbox

__all__ = ["Result", "Sandbox", "list_uncovered", "make_plain", "open_sandbox"]

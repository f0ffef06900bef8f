"""The MLGym-compatible world, usable without the rest of the kit: five names.

    from synthkit.gym import Agent, Environment, Task, Trajectory, aup

    task = Task.load(Path("MLGym"), "battleOfSexes")
    with Environment(task) as env:
        observation, info = env.reset(seed=0)
        observation, reward, terminated, truncated, info = env.step("ls")

`Task` reads MLGym's YAML files; `Environment` is an episode, in Gymnasium's terms; `Agent` lets a chat model act in
it; `Trajectory` is what happened, in MLGym's files; the module `aup` compares models over tasks (and imports pandas).
"""

from synthkit.gym.environment import Environment
from synthkit.gym.episode import Agent
from synthkit.gym.task import Task
from synthkit.gym.trajectory import Trajectory

__all__ = ["Agent", "Environment", "Task", "Trajectory", "aup"]

"""The MLGym-compatible world, usable without the rest of the kit: five names.

    from synthkit.gym import Agent, Environment, Task, Trajectory, aup

    task = Task.load(Path("MLGym"), "battleOfSexes")
    with Environment(task) as env:
        observation, info = env.reset(seed=0)
        observation, reward, terminated, truncated, info = env.step("ls")

`Task` reads MLGym's YAML files; `Environment` is an episode, in Gymnasium's terms; `Agent` lets a chat model act in
it; `Trajectory` is what happened, in MLGym's files; the module `aup` compares models over tasks (and imports pandas).

Which room imports which, without a circle; `task` imports no other:
- sandbox: task
- scoring: sandbox, task
- agent: scoring, task
- environment: agent, scoring, sandbox, task
- trajectory: environment, agent, sandbox, task
- episode: trajectory, environment, agent, sandbox, task
- bench: environment, sandbox, task
`aup` imports none of them. Of the rest of the kit they import synthkit.core alone.
"""

from synthkit.gym.environment import Environment
from synthkit.gym.episode import Agent
from synthkit.gym.task import Task
from synthkit.gym.trajectory import Trajectory

__all__ = ["Agent", "Environment", "Task", "Trajectory", "aup"]

"""The MLGym-compatible world: tasks, sandbox, scoring, environment, agent, AUP. Usable alone."""

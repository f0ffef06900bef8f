"""A run's verified tasks for others to use: an MLGym overlay, Harbor tasks, a dataset on the Hub with its card."""

"""What an agent writes and reads: replies and their formats, actions, tools, history and observations."""

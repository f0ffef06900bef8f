"""How a session is started: confined by bubblewrap, in a container, or not isolated at all."""

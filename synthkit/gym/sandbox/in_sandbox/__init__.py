"""What runs inside a sandbox, or enters one: copied there as single files, standard library only, never trusted."""

"""Pure functions that return what a notebook cell or the report shows."""

"""One module a stage, one stage a notebook."""

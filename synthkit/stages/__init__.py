"""One folder a stage, one stage a notebook: `stage.py` is what the notebook calls, its helpers lie beside it."""

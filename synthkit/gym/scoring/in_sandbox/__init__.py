"""Scripts that are copied into a sandbox, each named here by its path; nothing imports them."""

from pathlib import Path

GENERIC_MODELS = Path(__file__).with_name("generic_models.py")

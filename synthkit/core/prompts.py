"""The prompt templates of synthkit/prompts: rendered strictly, and hashed for the fingerprints of stages."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

PROMPTS = Path(__file__).resolve().parent.parent / "prompts"
CHAT_TEMPLATE = PROMPTS / "chatml.jinja"  # Of every student, in training and in play.

_templates = Environment(loader=FileSystemLoader(PROMPTS), undefined=StrictUndefined, trim_blocks=True,
                         lstrip_blocks=True, autoescape=False)


def render_prompt(name: str, /, **values: Any) -> str:
    """The prompt `name` (a file of synthkit/prompts without its suffix) with its values filled in.

    Raises jinja2.UndefinedError when the template asks for a value that was not given.
    """
    return _templates.get_template(f"{name}.jinja").render(values).strip()


def hash_prompts(names: Iterable[str]) -> str:
    """A sha256 over the named templates, so that a changed prompt is a changed stage."""
    digest = hashlib.sha256()
    for name in sorted(set(names)):
        text = (PROMPTS / f"{name}.jinja").read_bytes()
        digest.update(f"{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def render_messages(name: str, /, **values: Any) -> list[dict[str, str]]:
    """The chat messages of prompt `name`: one for each of its blocks `system` and `user`, in this order.

    Blocks rather than marker lines: a value that holds a marker cannot start a message of its own.
    """
    template = _templates.get_template(f"{name}.jinja")
    context = template.new_context(values)
    return [{"role": role, "content": "".join(template.blocks[role](context)).strip()}
            for role in ("system", "user") if role in template.blocks]

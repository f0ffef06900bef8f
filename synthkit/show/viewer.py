"""One trajectory as HTML to read: what the agent thought, what it did, what came back.

Thoughts, actions and observations were written by a model or by code that a model wrote, so all of it is cleaned of
terminal escapes and escaped.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.display import HTML

from synthkit.core.errors import RecordError
from synthkit.show.text import escape_text

STYLE = """
.traj{font-size:13px;line-height:1.5;max-width:56rem}
.traj .head{color:#6a707b;margin:0 0 .8em}
.traj .step{display:grid;grid-template-columns:2.2em 1fr;border-top:1px solid rgba(128,128,128,.25);padding:.7em 0}
.traj .no{color:#6a707b;font-variant-numeric:tabular-nums}
.traj .body{min-width:0}
.traj p{margin:0 0 .45em;white-space:pre-wrap;overflow-wrap:anywhere}
.traj pre{margin:0 0 .4em;padding:.45em .7em;white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px;
 line-height:1.45;background:rgba(128,128,128,.09);border-radius:3px;color:inherit}
.traj pre.act{border-left:3px solid #0f8b8d}
.traj pre.obs{background:none;border-left:3px solid rgba(128,128,128,.35);color:#6a707b}
.traj pre.obs.scored{border-left-color:#b7791f;color:inherit}
"""


def load_trajectory(path: Path) -> dict[str, Any]:
    """The content of a .traj file, this kit's or MLGym's own; a folder stands for the first such file in it.

    Raises RecordError when the file is not a trajectory.
    """
    if path.is_dir():
        path = next(iter(sorted(path.glob("*.traj"))), path)
    try:
        traj = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read as a trajectory: {error}", "name a .traj file") from error
    if not isinstance(traj, dict) or not isinstance(traj.get("trajectory"), list):
        raise RecordError(f"{path} holds no list named 'trajectory'", "name a .traj file")
    return traj


def show_trajectory(source: Path | Mapping[str, Any]) -> HTML:
    """A trajectory (its file, or the file's content) as a block for a notebook cell."""
    return HTML(f"<style>{STYLE}</style>{render_trajectory(source)}")


def render_trajectory(source: Path | Mapping[str, Any]) -> str:
    """A trajectory as an HTML fragment that expects `STYLE` on its page."""
    traj = load_trajectory(source) if isinstance(source, Path) else source
    info = traj.get("info", {})
    scores = info.get("score") or []
    head = (f"{len(traj['trajectory'])} steps · ended: {escape_text(info.get('exit_status') or 'unknown')} · "
            f"{len(scores)} evaluation{'' if len(scores) == 1 else 's'}")
    steps = "".join(_render_step(i, step) for i, step in enumerate(traj["trajectory"], start=1))
    return f'<div class="traj"><p class="head">{head}</p>{steps}</div>'


def _render_step(number: int, step: Mapping[str, Any]) -> str:
    observation = str(step.get("observation") or "")
    scored = " scored" if "Your score:" in observation or "Evaluation Score:" in observation else ""
    return (f'<div class="step"><div class="no">{number}</div><div class="body">'
            f"<p>{escape_text(_strip_heading(step.get('thought') or ''))}</p>"
            f'<pre class="act">{escape_text(str(step.get("action") or "").strip())}</pre>'
            f'<pre class="obs{scored}">{escape_text(observation.strip(), 2500)}</pre></div></div>')


def _strip_heading(thought: str) -> str:
    return thought.strip().removeprefix("DISCUSSION").strip()

"""What a cell shows that is not a figure: rows as a table, one record, a prompt, a file, the picture of an idea.

Every function returns an object that Jupyter renders; text that a model wrote is escaped.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from IPython.display import HTML, Markdown
from pandas.io.formats.style import Styler

from synthkit.core.params import STAGES
from synthkit.core.text import cut_end
from synthkit.show.rows import Record, flatten_record, make_frame
from synthkit.show.text import clean_text, escape_text

_WRAP = "white-space:pre-wrap;overflow-wrap:break-word;word-break:normal"
_PRE = (f"{_WRAP};margin:0;padding:.7em .9em;border-radius:4px;"
        "border:1px solid rgba(128,128,128,.3);font-size:12px;line-height:1.45")
_LABEL = "font-size:11px;letter-spacing:.04em;color:#6a707b;margin:.7em 0 .25em"


def show_rows(rows: Iterable[Record], columns: Sequence[str] | None = None, limit: int = 12) -> Styler:
    """The first `limit` rows as a table; long cells are cut, and nested values are written as JSON."""
    table = make_frame(islice(rows, limit), columns).map(_cut_cell)
    left = {"text-align": "left", "vertical-align": "top"}
    plain = table.style.format(escape="html", precision=4).hide().set_properties(None, **left)
    return plain.set_table_styles([{"selector": "th", "props": [("text-align", "left")]}])


def _cut_cell(value: Any, limit: int = 160) -> Any:
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    return cut_end(" ".join(clean_text(value).split()), limit)


def show_records(rows: Iterable[Record], title: str = "") -> HTML:
    """Whole records, field by field, so that a reader sees what exactly a stage writes; says when there is none."""
    tables = [_render_record(flatten_record(row)) for row in rows]
    return HTML(f'<p style="{_LABEL}">{escape_text(title)}{"" if tables else ": none"}</p>{"".join(tables)}')


def _render_record(fields: Mapping[str, Any]) -> str:
    cells = "".join(
        f'<tr><td style="text-align:left;vertical-align:top;padding-right:1.2em;color:#6a707b">{escape_text(name)}</td>'
        f'<td style="text-align:left"><pre style="{_WRAP};margin:0;background:none">'
        f"{escape_text(_write_value(value))}</pre></td></tr>"
        for name, value in fields.items()
    )
    return f'<table style="margin:0 0 1em">{cells}</table>'


def _write_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str)


def show_messages(messages: Iterable[Mapping[str, str]]) -> HTML:
    """The messages of one request, each under its role; a very long one is cut in its middle."""
    return HTML("".join(
        f'<p style="{_LABEL}">{escape_text(message["role"])}</p>'
        f'<pre style="{_PRE}">{escape_text(message["content"], 20_000)}</pre>' for message in messages
    ))


def show_text(text: str, title: str = "") -> HTML:
    """A file or a reply under its name, line by line; a very long one is cut in its middle."""
    return HTML(f'<p style="{_LABEL}">{escape_text(title)}</p><pre style="{_PRE}">{escape_text(text, 20_000)}</pre>')


def show_finish(record: Mapping[str, Any]) -> HTML:
    """A stage's completion record (stage.json) in three lines: what it kept, what it cost, what comes next."""
    names = list(STAGES)
    after = names[names.index(record["name"]) + 1:]
    refused = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in record["refused"].items() if n)
    more = (f"; refused: {refused}" if refused else "") + (f"; still owed: {record['owed']}" if record["owed"] else "")
    lines = [
        f"<b>{record['kept']} of {record['requested']} kept</b>{escape_text(more)}",
        f"{record['seconds']:,.1f} s · {record['tokens']:,} tokens · {record['usd']:.2f} USD",
        f"next: notebooks/{after[0]}.ipynb" if after else "next: report.html in the run's folder",
    ]
    return HTML("<br>".join(lines))


def show_flow(*steps: str, returns: str = "") -> Markdown:
    """The picture of an idea as a Mermaid diagram, which JupyterLab draws without a network.

    Arrows join the steps from left to right; `returns` is the text of a dotted arrow from the last one back to the
    first. A step written as `title: small print` has two lines.
    """
    labels = ["<br/>".join(map(_write_label, step.split(": ", 1))) for step in steps]
    lines = [f'  s{number}["{label}"]' for number, label in enumerate(labels)]
    lines += [f"  s{number - 1} --> s{number}" for number in range(1, len(steps))]
    if returns:
        lines.append(f'  s{len(steps) - 1} -.->|"{_write_label(returns)}"| s0')
    return Markdown("\n".join(["```mermaid", "flowchart LR", *lines, "```"]))


def _write_label(text: str) -> str:
    """Text that stays inside a quoted label and one line: all but letters, digits and blanks as character codes."""
    words = " ".join(clean_text(text).split())
    return "".join(c if c.isalnum() or c == " " else f"#{ord(c)};" for c in cut_end(words, 200))

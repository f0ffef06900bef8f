"""The look shared by every figure: one palette, one frame, and figures as SVG that follow the page's colours."""

import functools
import io
import re
from collections.abc import Callable, Mapping
from typing import ParamSpec

import matplotlib as mpl
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")

INK, MUTED, RULE = "#22252b", "#6a707b", "#dfe2e7"
GOOD, BAD, NEUTRAL = "#0f8b8d", "#d1603d", "#9097a3"
MODEL_COLOURS: Mapping[str, str] = {
    "base": NEUTRAL, "student": GOOD, "teacher": "#8a5fbf", "baseline": "#b7791f",
}
SERIES = (GOOD, "#8a5fbf", "#b7791f", "#3d7ab8", BAD, "#5c8a3a", NEUTRAL)
WIDTH_IN = 8.0

# In the report these become CSS variables, so that one figure serves light and dark pages.
_CSS_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", GOOD: "var(--good)", BAD: "var(--bad)",
                "#ffffff": "var(--paper)"}
_SVG_METADATA = ("Creator", "Date", "Format", "Type")  # All that matplotlib writes by itself; None leaves it out.
_STYLE = {
    "axes.edgecolor": RULE, "axes.facecolor": "none", "axes.labelcolor": MUTED, "axes.labelsize": 10,
    "axes.spines.right": False, "axes.spines.top": False, "axes.titlecolor": INK, "axes.titlelocation": "left",
    "axes.titlepad": 12, "axes.titlesize": 12, "axes.titleweight": "bold", "figure.dpi": 110, "font.size": 10,
    "grid.color": RULE, "grid.linewidth": 0.8, "legend.frameon": False, "legend.labelcolor": INK,
    "text.color": INK, "xtick.color": RULE, "xtick.labelcolor": MUTED, "ytick.color": RULE, "ytick.labelcolor": MUTED,
}


def kit_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a plotting function draw in the kit's look and leave matplotlib's settings as they were."""
    @functools.wraps(draw)
    def draw_styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context():
            sns.set_theme(style="ticks", palette=list(SERIES), rc=_STYLE)
            return draw(*args, **kwargs)
    return draw_styled


def open_figure(height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure, `height` inches tall, with its axes from left to right.

    The figure leaves pyplot's list at once, so a cell that returns it shows it only once.
    """
    figure, axes = plt.subplots(1, columns, figsize=(WIDTH_IN, height), squeeze=False, layout="constrained")
    plt.close(figure)
    return figure, list(axes[0])


def colour_models(names: list[str]) -> dict[str, str]:
    """A colour for each model name: fixed for the kit's own models, from the series for any other."""
    others = [name for name in names if name not in MODEL_COLOURS]
    spare = [c for c in SERIES if c not in MODEL_COLOURS.values()]
    chosen = {name: spare[i % len(spare)] for i, name in enumerate(others)}
    return {name: MODEL_COLOURS.get(name) or chosen[name] for name in names}


def say_empty(axes: Axes, why: str) -> None:
    """Write `why` where the data would be, so that an empty stage is not a blank picture."""
    axes.set_axis_off()
    axes.text(0.0, 0.5, why, color=MUTED, transform=axes.transAxes)


def render_svg(figure: Figure, name: str) -> str:
    """The figure as an inline SVG whose text is text and whose ink follows the page's light or dark colours.

    `name` keeps the ids of several figures on one page apart and the same from run to run. The text of the SVG is
    rewritten for it: matplotlib takes no CSS variable as a colour and no prefix for ids.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=dict.fromkeys(_SVG_METADATA))
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'font-family: [^;"]*', "font-family: inherit", svg)
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', r'\1role="img"', svg, count=1)
    for colour, variable in _CSS_COLOURS.items():
        svg = svg.replace(colour, variable)
    return svg

"""Figures of stages 01 to 06. Each takes plain rows or a table and returns one matplotlib figure.

Nothing is read from disk and nothing is shown here: a notebook shows a figure by returning it from a cell, the
report by `theme.render_svg`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from synthkit.show.rows import Record, make_frame
from synthkit.show.theme import BAD, GOOD, INK, MUTED, NEUTRAL, kit_style, open_figure, say_empty


@kit_style
def plot_topic_grid(topics: Iterable[Record], x: str = "task_type", y: str = "area") -> Figure:
    """How the topics spread over two axes of the diversity grid: a dot for each cell, larger where it has more."""
    counts = make_frame(topics, [x, y]).value_counts().rename("topics").reset_index()
    figure, (axes,) = open_figure(1.4 + 0.34 * max(4, counts[y].nunique()))
    axes.set_title(f"Where the {counts['topics'].sum()} topics lie in the diversity grid")
    if counts.empty:
        say_empty(axes, "no topics yet")
        return figure
    counts = counts.sort_values([y, x], ascending=[False, True])
    sns.scatterplot(counts, x=x, y=y, size="topics", sizes=(190, 420), color=GOOD, alpha=0.85, ax=axes, legend=False)
    for _, row in counts.iterrows():
        axes.annotate(str(row["topics"]), (row[x], row[y]), ha="center", va="center", color="white", fontsize=9)
    axes.set(xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
    axes.margins(x=0.12, y=0.08)
    axes.tick_params(axis="x", rotation=20)
    axes.grid(True)
    axes.set_axisbelow(True)
    return figure


@kit_style
def plot_dataset_sizes(proposals: Iterable[Record]) -> Figure:
    """How many rows of each proposed task train and how many test, the largest task on top."""
    table = make_frame(proposals, ["task_id", "n_train", "n_test"]).sort_values("n_train")
    figure, (axes,) = open_figure(1.3 + 0.22 * max(4, len(table)))
    axes.set_title(f"Rows in the {len(table)} proposed tasks")
    if table.empty:
        say_empty(axes, "no proposal was kept")
        return figure
    axes.barh(table["task_id"], table["n_train"], color=GOOD, height=0.65, label="train")
    axes.barh(table["task_id"], table["n_test"], left=table["n_train"], color=NEUTRAL, height=0.65, label="test")
    axes.set(xlabel="rows", ylabel="")
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.margins(y=0.01)
    axes.legend(loc="lower right")
    return figure


@kit_style
def plot_funnel(stage: str, requested: int, kept: int, refused: Mapping[str, int],
                owed: Mapping[str, int] | None = None) -> Figure:
    """One stage's funnel: what was requested, what each reason took away, what is owed still, what was kept."""
    reasons = {reason.replace("_", " "): n for reason, n in sorted(refused.items(), key=lambda item: -item[1]) if n}
    due = {f"owed: {reason}": n for reason, n in (owed or {}).items() if n}
    figure, (axes,) = open_figure(1.3 + 0.34 * (2 + len(reasons) + len(due)))
    left = requested
    axes.barh("requested", left, color=NEUTRAL, height=0.62)
    _label_bar(axes, left, "requested", str(left))
    for reason, n in (reasons | due).items():
        axes.barh(reason, n, left=max(0, left - n), color=NEUTRAL if reason in due else BAD, height=0.62)
        _label_bar(axes, left, reason, f"−{n}")
        left -= n
    axes.barh("kept", kept, color=GOOD, height=0.62)
    _label_bar(axes, kept, "kept", str(kept))
    axes.set_title(f"{stage.replace('_', ' ', 1).replace('_', '-')}: {kept} of {requested} kept")
    axes.set(xlabel="items", ylabel="", xlim=(0, max(requested, 1) * 1.1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.invert_yaxis()
    return figure


def _label_bar(axes: Any, x: float, y: str, text: str) -> None:
    axes.annotate(text, (max(x, 0), y), xytext=(5, 0), textcoords="offset points", va="center", color=INK)


@kit_style
def plot_attempts(attempts: Iterable[Record]) -> Figure:
    """What each attempt at the tasks met: the gate that stopped it, or none.

    Rows hold `attempt` (from 1) and `gate` (the first gate that failed, None when all passed).
    """
    table = make_frame(attempts, ["attempt", "gate"])
    table["gate"] = table["gate"].fillna("passed")
    counts = table.value_counts().unstack("gate", fill_value=0) if len(table) else pd.DataFrame()
    figure, (axes,) = open_figure(3.4)
    axes.set_title("What each attempt at a task met")
    if counts.empty:
        say_empty(axes, "no attempts yet")
        return figure
    order = [*(["passed"] if "passed" in counts else []), *sorted(str(c) for c in counts if c != "passed")]
    shades = [GOOD, *sns.light_palette(BAD, n_colors=len(order) + 2)[2:][::-1]] if "passed" in order else None
    counts[order].plot.barh(stacked=True, ax=axes, width=0.62, color=shades)
    axes.set(xlabel="tasks", ylabel="attempt")
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, title="stopped by", title_fontsize=9)
    return figure


@kit_style
def plot_rollouts(rollouts: Iterable[Record], max_tokens: int | None = None) -> Figure:
    """How long the trajectories are in steps and in tokens, kept and refused.

    Rows hold `steps`, `n_tokens` and `kept`. `max_tokens` is the filter's limit, drawn where it is near the data.
    """
    table = make_frame(rollouts, ["steps", "n_tokens", "kept"])
    table["verdict"] = table["kept"].map({True: "kept", False: "refused"})
    figure, axes = open_figure(3.2, columns=2)
    if table.empty:
        say_empty(axes[0], "no trajectories yet")
        axes[1].set_axis_off()
        return figure
    for axis, column, label in zip(axes, ("steps", "n_tokens"), ("length (steps)", "length (tokens)"), strict=True):
        sns.histplot(table, x=column, hue="verdict", hue_order=["refused", "kept"], palette=[BAD, GOOD], bins=18,
                     multiple="stack", ax=axis, legend=column == "n_tokens", edgecolor="white", linewidth=0.4,
                     alpha=1)
        axis.set(xlabel=label, ylabel="trajectories" if column == "steps" else "")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_title(f"Length of the {len(table)} trajectories, kept and refused")
    if legend := axes[1].get_legend():
        legend.set_title("")
    if max_tokens and max_tokens < 3 * table["n_tokens"].max():
        axes[1].axvline(max_tokens, color=MUTED, linestyle="--", linewidth=1)
        axes[1].annotate("limit", (max_tokens, 1), xycoords=("data", "axes fraction"), color=MUTED, ha="right")
    return figure


@kit_style
def plot_learning_curve(log: pd.DataFrame) -> Figure:
    """The student's training over optimizer steps: the loss, and the share of assistant tokens predicted right.

    The log has the columns `step`, `loss` and `mean_token_accuracy` (a share from 0 to 1).
    """
    figure, axes = open_figure(3.2, columns=2)
    axes[0].set_title("How the student learns the teacher's turns")
    if log.empty:
        say_empty(axes[0], "no training yet")
        axes[1].set_axis_off()
        return figure
    axes[0].plot(log["step"], log["loss"], color=GOOD, linewidth=1.6)
    axes[0].set(xlabel="optimizer steps", ylabel="loss (nats per assistant token)", ylim=(0, None))
    axes[1].plot(log["step"], 100 * log["mean_token_accuracy"], color=GOOD, linewidth=1.6)
    axes[1].set(xlabel="optimizer steps", ylabel="assistant tokens right (%)", ylim=(0, 102))
    for axis in axes:
        axis.grid(True, axis="y")
    return figure

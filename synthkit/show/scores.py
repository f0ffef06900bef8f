"""Figures of stage 07: every run against its task's baseline, and the performance profiles behind AUP."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthkit.gym.aup import BASELINE, KINDS, Aup
from synthkit.show.summary import measure_lead
from synthkit.show.theme import INK, MODEL_COLOURS, MUTED, colour_models, kit_style, open_figure, say_empty

GAIN_LIMIT = 100.0


def measure_gain(scores: pd.DataFrame, column: str = "score_best") -> pd.Series:
    """Each run's gain over its task's baseline in percent of the baseline, positive when better.

    NaN where a run has no score. Metrics of any direction become comparable; the size of a gain still depends on the
    metric's scale, so gains are for seeing, AUP for comparing.
    """
    return measure_lead(scores, column) / scores["baseline"].abs().clip(lower=1e-9) * 100


@kit_style
def plot_scores(scores: pd.DataFrame) -> Figure:
    """Each model's best attempt on each task, one dot a run, in percent better or worse than the baseline."""
    tasks = sorted(scores["task"].unique())
    models = [m for m in MODEL_COLOURS if m in set(scores["model"])]
    models += sorted(set(scores["model"]) - set(models))
    figure, (axes,) = open_figure(1.6 + 0.5 * max(3, len(tasks)))
    axes.set_title("Each run against its task's baseline, best attempt")
    if not tasks:
        say_empty(axes, "no runs yet")
        return figure
    shown = scores.assign(gain=measure_gain(scores).clip(-GAIN_LIMIT, GAIN_LIMIT)).dropna(subset="gain")
    sns.stripplot(shown, x="gain", y="task", hue="model", order=tasks, hue_order=models, dodge=True, size=6, alpha=0.8,
                  palette=colour_models(models), jitter=0.12, ax=axes)
    axes.axvline(0, color=MUTED, linewidth=1, linestyle="--")
    edge = max(10.0, shown["gain"].abs().max() * 1.15 if len(shown) else 10.0)
    unscored = scores[measure_gain(scores).isna()].assign(gain=-edge)
    sns.stripplot(unscored, x="gain", y="task", hue="model", order=tasks, hue_order=models, dodge=True, size=5,
                  marker="X", palette=colour_models(models), jitter=0.12, ax=axes, legend=False)
    axes.set(xlim=(-edge * 1.06, edge), ylabel="",
             xlabel=f"better than the baseline (%, cut at ±{GAIN_LIMIT:.0f}); crosses at the left edge: no score")
    for y in range(len(tasks) - 1):
        axes.axhline(y + 0.5, color=MUTED, linewidth=0.3, alpha=0.5)
    axes.tick_params(axis="y", labelcolor=INK, length=0)
    _label_legend(figure, axes, scores)
    return figure


def _label_legend(figure: Figure, axes: Axes, scores: pd.DataFrame) -> None:
    """Say in the legend how many runs have a score at all."""
    handles, names = axes.get_legend_handles_labels()
    scored = scores.groupby("model")["score_best"].agg(["count", "size"])
    labels = [f"{name} ({scored.loc[name, 'count']} of {scored.loc[name, 'size']} runs scored)" for name in names]
    if legend := axes.get_legend():
        legend.remove()
    figure.legend(handles, labels, loc="outside lower left", ncols=3, fontsize=9, handletextpad=0.2)


@kit_style
def plot_profiles(result: Aup) -> Figure:
    """Performance profiles: on which share of the tasks each model comes within a factor of the pool's best.

    The x axis is log10 of that factor; the legend tells the area under each curve, the AUP.
    """
    figure, axes = open_figure(4.1, columns=2)
    for axis, kind in zip(axes, KINDS, strict=True):
        profiles = result.profiles[kind]
        colours = colour_models(list(profiles))
        for name, share in profiles.items():
            axis.step(result.tau, 100 * np.asarray(share), where="post", color=colours[name], linewidth=1.8,
                      linestyle="--" if name == BASELINE else "-", label=f"{name}  {result.aup[kind][name]:.3f}")
        axis.set_title(f"{kind.capitalize()} attempt: tasks within reach")
        axis.set(xlabel="distance to the pool's best, log10(τ)", ylim=(-3, 103),
                 ylabel="tasks within that distance (%)" if kind == "best" else "")
        axis.grid(True, axis="y")
        axis.legend(title="area under the profile (AUP)", alignment="left", loc="upper left", fontsize=9, ncols=2,
                    title_fontsize=9, bbox_to_anchor=(-0.04, -0.22))
    return figure

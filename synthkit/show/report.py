"""report.html: one self-contained page about one run, for a colleague who has never seen the kit.

No script, no font and no picture from elsewhere; figures are inline SVG that follow light and dark. Text that a model
wrote is escaped by the template or by the viewer.
"""

from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from synthkit.core.chain import load_stage_record
from synthkit.core.files import read_records, write_text
from synthkit.core.params import STAGES
from synthkit.show import facts, plots, viewer
from synthkit.show import scores as score_plots
from synthkit.show.summary import build_summary, is_above_baseline, read_aup, read_scores
from synthkit.show.text import clean_text
from synthkit.show.theme import render_svg

STAGE_TITLES = {
    "01_topics": "Topics", "02_datasets": "Datasets", "03_codegen": "Code generation", "04_self_debug": "Self-debug",
    "05_trajectories": "Trajectories", "06_sft": "Fine-tuning", "07_mlgym_eval": "Evaluation",
}


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into the run's folder and return its path. What a run has not reached is left out."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=clean_value,
    )
    page = environment.get_template("report.html.jinja").render(**collect_report(run_dir))
    path = run_dir / "report.html"
    write_text(path, page)
    return path


def clean_value(value: Any) -> Any:
    """A value as the template prints it: text without terminal escapes, the kit's own markup as it is."""
    return clean_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def collect_report(run_dir: Path) -> dict[str, Any]:
    """Everything the template shows, as plain values and safe markup."""
    summary = build_summary(run_dir)
    records = {name: record for name in STAGES if (record := load_stage_record(run_dir, name))}
    evaluated = bool(summary["models"])
    scores = read_scores(run_dir) if evaluated else pd.DataFrame()
    trajectory = facts.choose_trajectory(run_dir, scores)
    return {
        "run": run_dir.name,
        "summary": summary,
        "headline": facts.write_headline(summary),
        "models": {model["name"]: model for model in summary["models"]},
        "titles": STAGE_TITLES,
        "records": records,
        "refusals": facts.list_refusals(run_dir, records),
        "owed": facts.list_owed(run_dir, records),
        "charges": facts.list_charges(records),
        "trajectory": trajectory and {**trajectory, "html": Markup(viewer.render_trajectory(trajectory["path"]))},
        "style": Markup(viewer.STYLE),
        "figures": draw_figures(run_dir, scores),
        "tasks": tabulate_tasks(scores) if evaluated else [],
        "provenance": facts.collect_provenance(run_dir, records),
    }


def draw_figures(run_dir: Path, scores: pd.DataFrame) -> dict[str, Markup]:
    """The report's figures by name, as inline SVG; a figure without data yet is left out."""
    figures = {}
    log = pd.DataFrame([row for row in read_records(run_dir / "06_sft" / "training_log.jsonl") if "loss" in row])
    if len(log):
        figures["learning"] = plots.plot_learning_curve(log.drop_duplicates("step", keep="last"))
    rollouts = read_records(run_dir / "05_trajectories" / "rollouts.jsonl")
    if rollouts:
        figures["rollouts"] = plots.plot_rollouts(rollouts)
    if len(scores):
        figures["scores"] = score_plots.plot_scores(scores)
        figures["profiles"] = score_plots.plot_profiles(read_aup(run_dir)[0])
    return {name: Markup(render_svg(figure, name)) for name, figure in figures.items()}


def tabulate_tasks(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a benchmark task: its baseline and, for each model, best score, runs, wins and valid submissions."""
    models = list(dict.fromkeys(scores["model"]))
    rows = []
    for task, runs in scores.groupby("task"):
        direction = runs["direction"].iloc[0]
        row = {"task": task, "direction": direction, "baseline": runs["baseline"].iloc[0], "models": []}
        for model in models:
            own = runs[runs["model"] == model]
            best = own["score_best"].min() if direction == "minimize" else own["score_best"].max()
            row["models"].append({"name": model, "best": None if pd.isna(best) else best, "runs": len(own),
                                  "wins": int(is_above_baseline(own).sum()), "valid": int(own["valid"].sum())})
        rows.append(row)
    return rows

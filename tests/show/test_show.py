"""Figures, tables, viewer, summary and report from small hand-made runs: right numbers and safe text."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest
from kits.show_kit import make_aup, make_scores, write_lines, write_stage

from synthkit.core.errors import RecordError
from synthkit.core.params import STAGES
from synthkit.core.text import cut_middle
from synthkit.gym.aup import Aup
from synthkit.show import plots, tables, viewer
from synthkit.show.report import write_report
from synthkit.show.scores import measure_gain, plot_profiles, plot_scores
from synthkit.show.summary import is_above_baseline, write_summary
from synthkit.show.text import clean_text, escape_text
from synthkit.show.theme import render_svg

EVIL = "<script>alert(1)</script>\x1b[31mred\x1b[0m\x1b]0;title\x07\u202e"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of which every stage has finished."""
    run = tmp_path / "demo"
    for name in STAGES:
        write_stage(run, name, {"gated": 2} if name == "02_datasets" else {})
    write_lines(run / "02_datasets/refused.jsonl", [{"reason": "gated", "title": EVIL, "detail": "asks for a form"}])
    rollout = {"steps": 4, "n_tokens": 900, "kept": True, "better": False}
    write_lines(run / "05_trajectories/rollouts.jsonl", [rollout] * 3)
    write_lines(run / "06_sft/training_log.jsonl", [{"step": s, "loss": 3 / s, "mean_token_accuracy": 0.5, "epoch": s}
                                                    for s in (1, 2)] + [{"step": 2, "train_loss": 1.0}])
    make_scores().to_csv(run / "07_mlgym_eval/scores.csv", index=False)
    (run / "07_mlgym_eval/aup.json").write_text(json.dumps(make_aup()))
    step = {"thought": "DISCUSSION\nI look.", "action": EVIL, "observation": EVIL, "response": "", "state": ""}
    folder = run / "07_mlgym_eval/trajectories/student/alpha/1"
    folder.mkdir(parents=True)
    traj = {"trajectory": [step], "info": {"exit_status": "submitted", "score": [{"accuracy": 0.9}]}}
    (folder / "alpha.traj").write_text(json.dumps(traj))
    return run


def test_text_is_cleaned_cut_and_escaped() -> None:
    assert clean_text("a\x1b[1;31mb\x1b[0m\rc\x00\x1b]8;;http://x\x1b\\d\u202e") == "ab\ncd"
    assert escape_text('<a href="x">') == "&lt;a href=&quot;x&quot;&gt;"
    cut = cut_middle("x" * 100, limit=20)
    assert cut.startswith("x" * 10 + "\n") and "80 characters left out" in cut


def test_gain_and_wins_follow_the_metrics_direction() -> None:
    scores = make_scores()
    won = scores[is_above_baseline(scores)]
    assert set(won["model"]) == {"student", "teacher"} and set(won["run"]) == {1, 2}
    assert sorted(set(measure_gain(scores).dropna().round(6))) == [0.0, 12.5, 20.0]


def test_every_figure_has_title_and_labels_and_is_valid_svg() -> None:
    log = pd.DataFrame({"step": [1, 2], "loss": [2.0, 1.0], "mean_token_accuracy": [0.1, 0.4]})
    figures = [
        plots.plot_topic_grid([{"area": "health", "task_type": "regression"}]),
        plots.plot_dataset_sizes([{"task_id": "a", "n_train": 60, "n_test": 30}]),
        plots.plot_funnel("02_datasets", 3, 1, {"gated": 2}),
        plots.plot_attempts([{"attempt": 1, "gate": "runs"}, {"attempt": 2, "gate": None}]),
        plots.plot_rollouts([{"steps": 3, "n_tokens": 900, "kept": True}], max_tokens=1000),
        plots.plot_learning_curve(log),
        plot_scores(make_scores()),
        plot_profiles(Aup(**{name: value for name, value in make_aup().items() if name != "difference"})),
    ]
    for number, figure in enumerate(figures):
        assert figure.axes[0].get_title(loc="left"), number
        assert all(axes.get_xlabel() for axes in figure.axes), number
        svg = render_svg(figure, f"f{number}")
        ET.fromstring(svg)
        assert "var(--ink)" in svg and f'id="f{number}-' in svg


def test_figures_of_empty_stages_say_so() -> None:
    empty = pd.DataFrame(columns=["step", "loss", "mean_token_accuracy"])
    figures = [plots.plot_topic_grid([]), plots.plot_dataset_sizes([]), plots.plot_attempts([]),
               plots.plot_rollouts([]), plots.plot_learning_curve(empty), plot_scores(make_scores().iloc[:0])]
    assert all(any("yet" in text.get_text() or "no " in text.get_text() for text in figure.axes[0].texts)
               for figure in figures)


def test_tables_escape_and_cut() -> None:
    shown = [tables.show_records([{"a": EVIL}]), tables.show_messages([{"role": "user", "content": EVIL}]),
             tables.show_text(EVIL, "x")]
    assert all("<script" not in html.data and "\x1b" not in html.data for html in shown)
    table = tables.show_rows([{"a": "x" * 500, "b": {"c": 1}}], columns=["a", "b", "missing"])
    assert table.data["a"][0].endswith("…") and table.data["b"][0] == '{"c": 1}'
    assert "<script" not in tables.show_rows([{"a": EVIL}]).to_html()


def test_a_flow_is_a_mermaid_block() -> None:
    assert tables.show_flow("Draft: from 03", "Gates", returns="next try").data == (
        '```mermaid\nflowchart LR\n  s0["Draft<br/>from 03"]\n  s1["Gates"]\n  s0 --> s1\n'
        '  s1 -.->|"next try"| s0\n```')
    assert "-.->" not in tables.show_flow("Draft", "Gates: two: parts").data


@pytest.mark.parametrize("text", [
    EVIL, 'a"] --> b["', "```\n# out", "`**a**`", "%%{init: {'securityLevel': 'loose'}}%%", "style a: #x;", "&lt;b&gt;",
    "line\r\nclick s0 href \"javascript:alert(1)\"", "#quot;]", "\u2028]", "x" * 9999,
])
def test_no_text_leaves_the_label_of_a_flow(text: str) -> None:
    lines = tables.show_flow(text, f"title: {text}", returns=text).data.splitlines()
    label = r"(?:[^\W_]| |#\d+;)*"
    shapes = ["```mermaid", "flowchart LR", rf'  s0\["{label}(?:<br/>{label})?"\]', rf'  s1\["title<br/>{label}"\]',
              "  s0 --> s1", rf'  s1 -\.->\|"{label}"\| s0', "```"]
    assert len(lines) == len(shapes) and all(len(line) < 2000 for line in lines)
    assert [line for line, shape in zip(lines, shapes, strict=True) if not re.fullmatch(shape, line)] == []


def test_viewer_refuses_what_is_no_trajectory(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"trajectory": 1}'):
        (tmp_path / "x.traj").write_text(text)
        with pytest.raises(RecordError, match="x.traj"):
            viewer.load_trajectory(tmp_path / "x.traj")


def test_summary_has_the_agreed_form(run_dir: Path) -> None:
    summary = write_summary(run_dir)
    assert json.loads((run_dir / "summary.json").read_text()) == summary
    assert [stage["name"] for stage in summary["stages"]] == list(STAGES)
    assert set(summary["stages"][0]) == {"name", "requested", "kept", "lost", "seconds", "tokens", "usd"}
    base, student, _ = summary["models"]
    assert base == {"name": "base", "aup_best": 0.0, "aup_last": 0.0, "valid_submission_rate": 0.0,
                    "tasks_above_baseline": 0, "tasks": 2, "runs": 6}
    assert student["valid_submission_rate"] == 1.0 and student["tasks_above_baseline"] == 2
    assert summary["aup_difference"] == {"models": ["student", "base"], "value": 0.15, "low": 0.1, "high": 0.2}
    assert summary["max_tau"] == 0.2 and "baseline" in summary["pool"]


def test_report_is_one_safe_page(run_dir: Path) -> None:
    page = write_report(run_dir).read_text()
    assert "<script" not in page and "\x1b" not in page and "&lt;script&gt;" in page
    assert 'src="' not in page and "@import" not in page and "url(http" not in page
    for part in ("The funnel", "What was refused, and why", "Tasks it has never seen", "AUP", "One trajectory to read",
                 "Learning", "Provenance", "asks for a form", "100 %"):
        assert part in page
    assert page.count("<svg") == 4


def test_report_of_a_run_that_only_began(tmp_path: Path) -> None:
    write_stage(tmp_path, "01_topics", {})
    assert "as far as 01_topics" in write_report(tmp_path).read_text()
    assert write_summary(tmp_path)["models"] == []


def test_a_report_tells_what_is_owed_what_the_kit_did_wrong_and_what_was_presumed(run_dir: Path) -> None:
    path = run_dir / "05_trajectories" / "stage.json"
    record = json.loads(path.read_text()) | {"owed": 2, "refused": {"gave_up": 5, "kit_fault": 1},
                                             "made_by_other_code": True,
                                             "charges": {"presumed": {"requests": 3, "tokens": 70, "usd": 0.5}}}
    path.write_text(json.dumps(record))
    write_lines(path.parent / "owed.jsonl", [{"id": f"t/{k}", "reason": "endpoint", "cause": EVIL} for k in range(2)])
    page = write_report(run_dir).read_text()
    assert "What is still owed" in page and "made by other code" in page and "<td>presumed</td>" in page
    assert page.index("kit fault") < page.index("gave up") and page.index("kit fault") < page.index("gated")
    assert "<script" not in page

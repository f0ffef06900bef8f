"""Stage 04: every gate refuses its own flaw in a real sandbox, and the loop repairs, restarts, discards, resumes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kits.loopback_teacher import serve_teacher
from kits.stage_kit import ANSWERS, BASELINE, CODE, EVALUATE, finish_datasets, finish_drafts, open_with
from pydantic import ValidationError

from synthkit.core.files import read_records
from synthkit.core.params import SandboxParams
from synthkit.export.harbor import export_harbor
from synthkit.gym.task import Task
from synthkit.records import CustomMetric, Proposal, TaskCode
from synthkit.stages.common.code_request import build_code_request
from synthkit.stages.self_debug import stage as self_debug
from synthkit.stages.self_debug.candidate import open_candidate
from synthkit.stages.self_debug.gates import GATES, run_gates
from synthkit.stages.self_debug.static_checks import GateRefusal

BACKEND = "bwrap" if shutil.which("bwrap") else "process"
SANDBOX = SandboxParams(backend=BACKEND)
BROKEN = BASELINE.replace('train["species"]', 'train["kind"]')
STRONG = BASELINE.replace("sepal_width", "petal_length").replace("max_depth=1", "max_depth=3")


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> tuple[Proposal, Path]:
    run_dir = tmp_path_factory.mktemp("run")
    with serve_teacher(ANSWERS) as teacher:
        stage = finish_datasets(run_dir, teacher)
    return read_records(stage.dir / "proposals.jsonl", Proposal)[0], stage.dir / "data" / "iris-species-t001"


def try_gates(iris: tuple[Proposal, Path], margin: float = 0.02, limit_s: int = 300, **files: str) -> Any:
    code = TaskCode(**(CODE | files))
    with open_candidate(*iris[:1], code, iris[1], time_limit_s=limit_s, margin=margin, leak=0.98, seed=0,
                    sandbox=SANDBOX) as candidate:
        return run_gates(candidate), candidate.scores


def swap(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def test_a_sound_task_passes_every_gate_and_gets_its_scores(iris: tuple[Proposal, Path]) -> None:
    verdicts, scores = try_gates(iris)
    assert [verdict.reason for verdict in verdicts] == [None] * 10, verdicts[-1]
    assert scores.trivial < scores.baseline_private < scores.reference <= scores.perfect == 1


NEAR = CustomMetric(name="hit_share", definition="The share of flowers that are named rightly, times 100.",
                    direction="maximize", perfect=100.0)


def test_a_custom_metric_is_held_to_its_perfect_score_and_direction(iris: tuple[Proposal, Path]) -> None:
    own = iris[0].model_copy(update={"metric": NEAR.name, "custom_metric": NEAR}), iris[1]
    code = swap(EVALUATE, '{"accuracy": accuracy_score(', '{"hit_share": 100 * accuracy_score(')
    verdicts, scores = try_gates(own, evaluate_py=code)
    assert verdicts[-1].reason is None and scores.perfect == 100 and scores.trivial < scores.reference
    for wrong, reason in (("99 * accuracy_score(", "wrong_optimum"), ("0 * 100 * accuracy_score(", "wrong_optimum")):
        verdicts, _ = try_gates(own, evaluate_py=swap(code, "100 * accuracy_score(", wrong))
        assert (verdicts[-1].gate, verdicts[-1].reason) == ("oracle", reason)
    request = build_code_request(own[0], own[1], sample_rows=1, time_limit_s=9, evaluation="kit", attempt=1)
    prompt = request[-1]["content"]
    assert "Definition of hit_share: The share of flowers" in prompt
    with pytest.raises(ValidationError):
        CustomMetric(**NEAR.model_dump() | {"name": "accuracy"})


def test_the_teacher_may_solve_what_no_generic_model_does(iris: tuple[Proposal, Path]) -> None:
    """The baseline knows all answers by heart but one, so no model is better; the solution knows that one too."""
    answers = (iris[1] / "answers.csv").read_text()
    head, first, *rest = answers.splitlines(keepends=True)
    other = "0,virginica\n" if first != "0,virginica\n" else "0,setosa\n"
    nearly, cheat = (f"open('submission.csv', 'w').write({text!r})\n"
                     for text in ("".join([head, other, *rest]), answers))
    asked: list[int] = []

    def solve(number: int) -> str:
        asked.append(number)
        return {1: "import os\nos._exit(1)\n", 2: 'open("data/answers.csv")\n'}.get(number, cheat)

    for tries, reason in ((0, "no_headroom"), (2, "no_headroom"), (3, None)):
        asked.clear()
        code = TaskCode(**CODE | {"baseline_py": nearly})
        with open_candidate(iris[0], code, iris[1], time_limit_s=300, margin=0.0, leak=0.999, seed=0, sandbox=SANDBOX,
                        solve=solve, solver_attempts=tries) as candidate:
            verdicts = run_gates(candidate)
        assert asked == list(range(1, tries + 1)) and verdicts[-1].reason == reason
    assert candidate.difficulty is not None
    assert (candidate.difficulty.model, candidate.difficulty.gain) == ("teacher_3", 1)


def test_a_solution_of_the_teachers_is_kept_beside_the_task(tmp_path: Path) -> None:
    with serve_teacher(ANSWERS) as teacher:
        data = finish_datasets(tmp_path / "look", teacher).dir / "data" / "iris-species-t001"
    head, first, *rest = (data / "answers.csv").read_text().splitlines(keepends=True)
    other = "0,virginica\n" if first != "0,virginica\n" else "0,setosa\n"
    nearly, whole = (f"open('submission.csv', 'w').write({''.join([head, one, *rest])!r})\n" for one in (other, first))
    told = {"TaskCode": lambda messages: CODE | {"baseline_py": nearly},
            "TaskSolution": lambda messages: {"solution_py": whole}}
    with serve_teacher(ANSWERS | told) as teacher:
        finish_drafts(tmp_path / "run", teacher)
        stage = debug(tmp_path / "run", teacher, margin=0.0)
        (row,) = self_debug.load_verified(stage)
        assert row["best_model"] == "teacher_1" and teacher.asked[-1][0] == "TaskSolution"
        assert nearly.strip() in teacher.asked[-1][1][-1]["content"]
    task = Task.load(stage.dir / "tasks", row["task_id"])
    assert "solution.py" in task.meta.hashes and "solution.py" not in task.all_files()
    assert task.meta.origin["04_self_debug"].tokens_out > 0
    export_harbor([task], tmp_path / "harbor", {task.id: 0.9})
    solution = tmp_path / "harbor" / task.id / "solution"
    assert (solution / "solution.py").read_text() == whole and "solution.py" in (solution / "solve.sh").read_text()


def test_the_kit_can_write_the_evaluation_itself(tmp_path: Path) -> None:
    with serve_teacher(ANSWERS | {"TaskCode": lambda messages: CODE | {"evaluate_py": ""}}) as teacher:
        finish_drafts(tmp_path, teacher, evaluation="kit")
        stage = debug(tmp_path, teacher)
        (row,) = self_debug.read_verified(stage)
        assert row.attempts == 1 and "leave it empty" in teacher.asked[-1][1][0]["content"]
    task = Task.load(stage.dir / "tasks", row.task_id)
    assert "accuracy_score" in task.all_files()["evaluate.py"].read_text()


FLAWS: list[tuple[str, str, dict[str, str], str]] = [
    ("static", "no_evaluation", {"evaluate_py": " "}, "empty"),
    ("static", "syntax_error", {"baseline_py": BASELINE + "\ndef"}, "baseline.py, line"),
    ("static", "forbidden_import", {"evaluate_py": "import requests\n" + EVALUATE}, "requests"),
    ("static", "absolute_path", {"baseline_py": swap(BASELINE, "data/train.csv", "/data/train.csv")}, "/data/train"),
    ("static", "reads_labels", {"baseline_py": BASELINE + 'pd.read_csv("data/answers.csv")\n'}, "answers.csv"),
    ("static", "braces", {"description": "Score is {accuracy: value}."}, "unescaped braces"),
    ("baseline", "baseline_failed", {"baseline_py": swap(BASELINE, "import pandas as pd\n", "")}, "NameError"),
    ("baseline", "baseline_timeout", {"baseline_py": "while True:\n    pass\n"}, "timed out after 1 s"),
    ("baseline", "no_submission", {"baseline_py": swap(BASELINE, '"submission.csv"', '"out.csv"')}, "without"),
    ("baseline", "bad_submission", {"baseline_py": swap(BASELINE, ".to_csv(", ".head(3).to_csv(")}, "missing"),
    ("evaluate", "evaluate_failed", {"evaluate_py": swap(EVALUATE, "species_y", "kind_y")}, "KeyError"),
    ("evaluate", "evaluate_failed", {"evaluate_py": "import os\nos.kill(os.getppid(), 9)\n" + EVALUATE}, "exit code"),
    ("evaluate", "evaluate_output", {"evaluate_py": "print('Scoring')\n" + EVALUATE}, "Scoring"),
    ("evaluate", "wrong_metric", {"evaluate_py": swap(EVALUATE, '{"accuracy"', '{"acc"')}, "'accuracy'"),
    ("evaluate", "metric_mismatch", {"evaluate_py": swap(EVALUATE, ": accuracy_score", ": 1 - accuracy_score")}, "0"),
    ("corrupt", "accepts_corrupt",
     {"evaluate_py": swap(EVALUATE, ' or sorted(guess["id"]) != sorted(answers["id"])', "")}, "missing_rows"),
    ("order", "baseline_too_weak", {"baseline_py": swap(BASELINE, "model.predict(test[[\"sepal_width\"]])",
                                                        'train["species"].iloc[0]')}, "trivial"),
    ("order", "baseline_too_strong", {"baseline_py": STRONG}, "leaves no room"),
]


@pytest.mark.parametrize(("gate", "reason", "files", "sign"), FLAWS, ids=[flaw[1] for flaw in FLAWS])
def test_each_gate_refuses_its_flaw_and_shows_evidence(
    iris: tuple[Proposal, Path], gate: str, reason: str, files: dict[str, str], sign: str
) -> None:
    margin = 0.2 if reason == "baseline_too_strong" else 0.02
    verdicts, scores = try_gates(iris, margin, 1 if reason == "baseline_timeout" else 300, **files)
    assert (verdicts[-1].gate, verdicts[-1].reason) == (gate, reason), verdicts[-1]
    assert sign in verdicts[-1].evidence and scores is None


def test_an_evaluation_past_its_time_is_refused(iris: tuple[Proposal, Path]) -> None:
    """The limit is short for the evaluation alone: a baseline that is in time has to come first."""
    code, gates = TaskCode(**CODE | {"evaluate_py": "while True:\n    pass\n"}), dict(GATES)
    with open_candidate(*iris[:1], code, iris[1], time_limit_s=300, margin=0.02, leak=0.98, seed=0,
                    sandbox=SANDBOX) as candidate:
        gates["schema"](candidate)
        gates["baseline"](candidate)
        candidate.time_limit_s = 1
        with pytest.raises(GateRefusal, match="evaluate_timeout") as refused:
            gates["evaluate"](candidate)
    assert "timed out after 1 s" in refused.value.evidence


def answer_code(messages: list[dict[str, str]]) -> dict[str, str]:
    """Task 1 is right at once, 2 when the evidence is shown, 3 at its third attempt, 4 never."""
    task = next(line for line in messages[1]["content"].splitlines() if line.startswith("Task id: "))[-1]
    request = messages[-1]["content"]
    repaired = "Failing gate: baseline" in request and "KeyError: 'kind'" in request
    good = task == "1" or (task == "2" and repaired) or (task == "3" and "Attempt: 3" in request)
    return CODE if good else CODE | {"baseline_py": BROKEN}


def debug(run_dir: Path, teacher: Any, **values: Any) -> Any:
    stage = open_with("04_self_debug", run_dir, teacher, sandbox={"backend": BACKEND}, max_attempts=3, **values)
    self_debug.run(stage)
    return stage


def test_the_loop_repairs_restarts_and_discards(tmp_path: Path) -> None:
    with serve_teacher(ANSWERS | {"TaskCode": answer_code}) as teacher:
        finish_drafts(tmp_path, teacher, 4)
        stage = debug(tmp_path, teacher, p_debug=1.0)
        self_debug.check(stage)
        assert self_debug.funnel(stage) == (4, 3, {"baseline_failed": 1}, {})
        rows = self_debug.load_attempts(stage)
        tried = [(row["task_id"][-1], row["attempt"], row["how"], row["gate"]) for row in rows]
        assert tried == [("1", 1, "draft", None), ("2", 1, "draft", "baseline"), ("2", 2, "repair", None),
                         ("3", 1, "draft", "baseline"), ("3", 2, "repair", "baseline"), ("3", 3, "repair", None),
                         *[("4", n, "draft" if n == 1 else "repair", "baseline") for n in (1, 2, 3)]]
        (row,) = self_debug.count_gates(stage)
        assert (row["gate"], row["failed"], row["repaired"], row["refused"]) == ("baseline", 6, 3, 1)
        # Five requests after a refusal, at two tokens each; the drafts were paid for in stage 03.
        assert (row["tokens"], row["usd"]) == (10, 0.0)
        assert "+" in self_debug.read_attempts(stage)[2].diff
        task = Task.load(stage.dir / "tasks", "iris-species-t002")
        assert task.meta.baseline_private and task.meta.perfect_score == 1 and task.config.baseline_scores
        repair = next(m for form, m in teacher.asked if form == "TaskCode" and len(m) == 4)
        assert [m["role"] for m in repair] == ["system", "user", "assistant", "user"]
        assert json.loads(repair[2]["content"])["baseline_py"] == BROKEN

        names = ("attempts.jsonl", "verified.jsonl", "refused.jsonl")
        whole, asked = {name: (stage.dir / name).read_bytes() for name in names}, len(teacher.asked)
        (stage.dir / "attempts.jsonl").write_bytes(b"".join(whole["attempts.jsonl"].splitlines(keepends=True)[:-1]))
        (stage.dir / "refused.jsonl").unlink()
        debug(tmp_path, teacher, p_debug=1.0)
        assert {name: (stage.dir / name).read_bytes() for name in names} == whole and len(teacher.asked) == asked
        assert self_debug.finish(stage)["metrics"]["saved"] == 2


def test_without_repair_generation_starts_anew(tmp_path: Path) -> None:
    with serve_teacher(ANSWERS | {"TaskCode": answer_code}) as teacher:
        finish_drafts(tmp_path, teacher, 2)
        stage = debug(tmp_path, teacher, p_debug=0.0)
        restarts = [m for form, m in teacher.asked if form == "TaskCode"][2:]
    assert {row["how"] for row in self_debug.load_attempts(stage)} == {"draft", "restart"}
    assert all(len(messages) == 2 for messages in restarts) and "Attempt: 3" in restarts[-1][1]["content"]
    assert [row.task_id for row in self_debug.read_verified(stage)] == ["iris-species-t001"]


@pytest.mark.parametrize("limit", [{"max_task_tokens": 2}, {"max_task_usd": 1e-6}])
def test_a_task_may_cost_so_much(tmp_path: Path, limit: dict[str, float]) -> None:
    with serve_teacher(ANSWERS | {"TaskCode": answer_code}) as teacher:
        finish_drafts(tmp_path, teacher, 3)
        prices = {"usd_per_mtok_in": 1.0, "usd_per_mtok_out": 1.0, "budget_usd": 1.0}
        stage = open_with("04_self_debug", tmp_path, teacher, sandbox={"backend": BACKEND}, p_debug=1.0, **limit)
        stage.params.teacher = stage.params.teacher.model_copy(update=prices)
        self_debug.run(stage)
    # The third task is right at its third attempt, and after the second its money is spent.
    assert self_debug.funnel(stage) == (3, 2, {"baseline_failed": 1}, {})
    assert [attempt.usd for attempt in self_debug.read_attempts(stage)] == pytest.approx([0, 0, 2e-6, 0, 2e-6])

"""The exercises' solutions say what is so: each answer is compared with one found here, from the run's own files.

Their cells are run without a kernel, which costs seven starts less. Where a run of the kit's smallest profile has
little to tell (no draft that cannot work, no valid submission), the files that a solution reads are written here.
"""

import ast
import contextlib
import csv
import io
import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from kits.places import ROOT

from synthkit.core.files import FORMAT
from synthkit.core.params import STAGES
from synthkit.gym.aup import compute_aup

SOLUTIONS = ROOT / "notebooks" / "solutions"
Answers = Callable[[str, Path], dict[int, str]]
NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"


@pytest.fixture(scope="module")
def answers() -> Answers:
    """What a solution says to each exercise, on a run; each is run once."""
    said: dict[tuple[str, Path], dict[int, str]] = {}

    def answer(name: str, run: Path) -> dict[int, str]:
        if (name, run) not in said:
            said[name, run] = run_cells(name, run)
        return said[name, run]

    return answer


def run_cells(name: str, run: Path) -> dict[int, str]:
    """All that the cells below each '## Exercise N' print, display, or end with."""
    said: dict[int, str] = {}
    out, at = io.StringIO(), 0
    space: dict[str, Any] = {"display": lambda *values: [out.write(f"\n{show(value)}\n") for value in values]}
    for cell in nbformat.read(SOLUTIONS / f"{name}.ipynb", as_version=4).cells:
        if found := re.match(r"## Exercise (\d)", cell.source):
            at = int(found[1])
        if cell.cell_type != "code":
            continue
        with contextlib.redirect_stdout(out):
            value = run_cell(cell.source, space)
            if "parameters" in cell.metadata.get("tags", []):
                space["run_dir"] = str(run)
        said[at] = said.get(at, "") + out.getvalue() + ("" if value is None else f"\n{show(value)}\n")
        out.seek(0)
        out.truncate()
    return said


def run_cell(source: str, space: dict[str, Any]) -> Any:
    """The value of the cell's last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), space)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), space) if last else None


def show(value: Any) -> str:
    return value.to_string() if hasattr(value, "to_string") else str(value)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers_after(said: str, label: object) -> list[float]:
    """The numbers that stand behind a label in the first line that begins with it, or has it behind a row's number."""
    found = re.search(rf"(?m)^(?:\d+\s+)?{re.escape(str(label))}\b(.*)$", said)
    assert found, f"{label} is not in:\n{said}"
    return [float(number) for number in re.findall(rf"(?<![\w.-]){NUMBER}(?![\w.])", found[1])]


def check_numbers(said: str, expected: dict[Any, Iterable[float]], digits: int = 2) -> None:
    for label, values in expected.items():
        assert numbers_after(said, label) == pytest.approx([*values], abs=0.51 * 10 ** -digits), label


def share(counts: Counter[str]) -> dict[str, tuple[float]]:
    return {name: (count / counts.total(),) for name, count in counts.items()}


def test_01_areas_and_difficulties_are_counted(answers: Answers, ci_run: Path) -> None:
    topics, said = read(ci_run / "01_topics/topics.jsonl"), answers("01_topics", ci_run)[1]
    check_numbers(said, {area: (count,) for area, count in Counter(row["area"] for row in topics).items()})
    check_numbers(said, share(Counter(row["difficulty"] for row in topics)))


def test_01_the_most_similar_topics_are_named(answers: Answers, ci_run: Path) -> None:
    topics = read(ci_run / "01_topics/topics.jsonl")
    vectors = weigh([f"{row['title']}. {row['summary']}" for row in topics])
    pairs = {(a, b): sum(weight * vectors[b].get(term, 0) for term, weight in vectors[a].items())
             for a in range(len(topics)) for b in range(a)}
    closest = max(pairs, key=lambda pair: pairs[pair])
    said = answers("01_topics", ci_run)[2]
    assert all(topics[at]["title"] in said for at in closest)
    assert f"{pairs[closest]:.2f}" in said and pairs[closest] > 0


def weigh(texts: list[str]) -> list[dict[str, float]]:
    """Words and pairs of words: (1 + log count) * (1 + log of the share of texts that have it), at length 1."""
    counts = []
    for text in texts:
        words = re.findall(r"\w\w+", text.lower())
        counts.append(Counter([*words, *map(" ".join, zip(words, words[1:], strict=False))]))
    spread = Counter(term for count in counts for term in count)
    vectors = [{term: (1 + math.log(n)) * (1 + math.log((1 + len(texts)) / (1 + spread[term])))
                for term, n in count.items()} for count in counts]
    return [{term: weight / math.hypot(*vector.values()) for term, weight in vector.items()} for vector in vectors]


def test_01_the_spread_is_measured_in_bits(answers: Answers, ci_run: Path) -> None:
    topics, said = read(ci_run / "01_topics/topics.jsonl"), answers("01_topics", ci_run)[3]
    for column in ("area", "task_type", "difficulty"):
        shares = [part for part, in share(Counter(row[column] for row in topics)).values()]
        bits = -sum(part * math.log2(part) for part in shares)
        check_numbers(said, {column: (bits, math.log2(len(shares)))})
    cells = {(row["area"], row["modality"], row["task_type"], row["difficulty"]) for row in topics}
    assert f"{len(cells)} different cells" in said


def test_02_datasets_are_counted_with_their_licences(answers: Answers, ci_run: Path) -> None:
    proposals, said = read(ci_run / "02_datasets/proposals.jsonl"), answers("02_datasets", ci_run)[1]
    counts = Counter((row["dataset"]["id"], row["dataset"]["licence"]) for row in proposals)
    for (dataset, licence), count in counts.items():
        assert re.search(rf"{re.escape(dataset)}\s+{re.escape(licence)}\s+{count}\s*$", said, re.M), dataset
    assert len(re.findall(r"(?m)^\d+ ", said)) == len(counts)


def test_02_the_largest_class_of_each_classification_task_is_told(answers: Answers, ci_run: Path) -> None:
    folder, expected = ci_run / "02_datasets", {}
    for row in read(folder / "proposals.jsonl"):
        if row["task_kind"] == "classification":
            labels = Counter(line[row["target"]] for line in read_csv(folder / f"data/{row['task_id']}/train.csv"))
            expected[row["task_id"]] = (max(labels.values()) / labels.total(),)
    assert expected
    check_numbers(answers("02_datasets", ci_run)[2], expected, 3)


def test_02_the_largest_shift_is_told_first(answers: Answers, ci_run: Path) -> None:
    folder, said, shifts = ci_run / "02_datasets", answers("02_datasets", ci_run)[3], {}
    for row in read(folder / "proposals.jsonl"):
        train, test = (read_csv(folder / f"data/{row['task_id']}/{part}.csv") for part in ("train", "test"))
        columns = [name for name in test[0] if name != "id" and name in train[0] and is_numeric(train, name)]
        shifts[row["task_id"]] = max(measure_shift(train, test, name) for name in columns)
    first = max(shifts, key=lambda task: shifts[task])
    assert [task for task in re.findall(r"[\w-]+-t\d{3}", said)][0] == first
    for task, shift in shifts.items():
        assert numbers_after(said, task)[-1] == pytest.approx(shift, abs=0.0051), task


def read_numbers(rows: list[dict[str, str]], column: str) -> list[float]:
    return [float(row[column]) for row in rows if row[column]]


def is_numeric(rows: list[dict[str, str]], column: str) -> bool:
    try:
        return bool(read_numbers(rows, column))
    except ValueError:
        return False


def measure_shift(train: list[dict[str, str]], test: list[dict[str, str]], column: str) -> float:
    before, after = read_numbers(train, column), read_numbers(test, column)
    spread = statistics.stdev(before)
    return abs(statistics.fmean(before) - statistics.fmean(after)) / spread if spread else 0.0


@pytest.fixture(scope="module")
def broken_drafts(ci_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two drafts more: one that is no Python, and one that hands nothing in."""
    folder = tmp_path_factory.mktemp("broken") / "03_codegen"
    folder.mkdir()
    (folder / "tasks").symlink_to(ci_run / "03_codegen/tasks")
    lines = (ci_run / "03_codegen/drafts.jsonl").read_text()
    for task_id, code in (("no-python", "x = 1\nopen('submission.csv'\n"), ("silent", "Ridge().fit(x, y)\n")):
        lines += json.dumps({"format": FORMAT, "task_id": task_id, "code": {"baseline_py": code}}) + "\n"
    (folder / "drafts.jsonl").write_text(lines)
    return folder.parent


def test_03_the_baselines_estimators_are_counted(answers: Answers, broken_drafts: Path) -> None:
    kinds = ("Classifier", "Regressor", "Regression", "Ridge", "Lasso", "NB")
    names: Counter[str] = Counter()
    for row in read(broken_drafts / "03_codegen/drafts.jsonl"):
        if row["task_id"] == "no-python":
            continue
        calls = [node.func for node in ast.walk(ast.parse(row["code"]["baseline_py"])) if isinstance(node, ast.Call)]
        called = {getattr(call, "id", getattr(call, "attr", "")) for call in calls}
        names.update(name for name in called if name[:1].isupper() and name.endswith(kinds))
    said = dict(ast.literal_eval(answers("03_codegen", broken_drafts)[1].strip()))
    assert said == names and names["Ridge"] and len(names) > 2


def test_03_drafts_that_cannot_work_are_named(answers: Answers, broken_drafts: Path, ci_run: Path) -> None:
    said = answers("03_codegen", broken_drafts)[2].strip().splitlines()
    assert sorted(said) == ["no-python: does not parse, line 2", "silent: never writes submission.csv"]
    assert answers("03_codegen", ci_run)[2].strip() == "none"


def test_03_what_an_agent_sees_is_told_apart(answers: Answers, ci_run: Path) -> None:
    task_id, sees, never = re.split(r"\s+sees:|\s+never sees:", answers("03_codegen", ci_run)[3].strip())
    folder = ci_run / "03_codegen/tasks/data" / task_id
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"synthkit.yaml"}
    assert {*sees.split(), *never.split()} == files and not {*sees.split()} & {*never.split()}
    assert "data/answers.csv" in never.split() and {"evaluate.py", "data/train.csv"} <= {*sees.split()}


def test_04_tries_are_counted(answers: Answers, ci_run: Path) -> None:
    tries = Counter(row["attempts"] for row in read(ci_run / "04_self_debug/verified.jsonl"))
    said = answers("04_self_debug", ci_run)[1]
    assert [[int(part) for part in line] for line in re.findall(r"(?m)^(\d+)\s+(\d+)$", said)] == [
        [number, tries[number]] for number in sorted(tries)]


def test_04_gates_are_told_with_what_was_saved(answers: Answers, ci_run: Path) -> None:
    verified = {row["task_id"] for row in read(ci_run / "04_self_debug/verified.jsonl")}
    refused = [row for row in read(ci_run / "04_self_debug/attempts.jsonl") if row["gate"]]
    expected = {}
    for gate in {row["gate"] for row in refused}:
        saved = [row["task_id"] in verified for row in refused if row["gate"] == gate]
        expected[gate] = (len(saved), sum(saved) / len(saved))
    assert expected
    check_numbers(answers("04_self_debug", ci_run)[2], expected)


def test_04_tasks_are_as_hard_as_their_scores_say(answers: Answers, ci_run: Path) -> None:
    expected = {}
    for row in read(ci_run / "04_self_debug/verified.jsonl"):
        scores = row["scores"]
        expected[row["task_id"]] = [(scores[name] - scores["trivial"]) / (scores["perfect"] - scores["trivial"])
                                    for name in ("baseline_private", "reference")]
    check_numbers(answers("04_self_debug", ci_run)[3], expected)


def test_05_the_shortest_kept_rollout_is_shown(answers: Answers, ci_run: Path) -> None:
    kept = [row for row in read(ci_run / "05_trajectories/rollouts.jsonl") if row["kept"]]
    least = min(row["steps"] for row in kept)
    said = answers("05_trajectories", ci_run)[1]
    told = [f"{row['task_id']} {least} steps, score {row['score']} baseline {row['baseline']}"
            for row in kept if row["steps"] == least]
    assert any(text in said for text in told), told


def test_05_a_shorter_limit_keeps_less(answers: Answers, ci_run: Path) -> None:
    kept = [row for row in read(ci_run / "05_trajectories/rollouts.jsonl") if row["kept"]]
    said = answers("05_trajectories", ci_run)[2]
    assert f"{sum(row['n_tokens'] <= 2000 for row in kept)} of {len(kept)} would stay" in said
    for task_id in {row["task_id"] for row in kept}:
        fits = [row["n_tokens"] <= 2000 for row in kept if row["task_id"] == task_id]
        check_numbers(said, {task_id: (sum(fits) / len(fits),)})


def test_05_optimism_is_measured_in_the_tasks_own_units(answers: Answers, ci_run: Path) -> None:
    verified = {row["task_id"]: row for row in read(ci_run / "04_self_debug/verified.jsonl")}
    optimism = []
    for row in read(ci_run / "05_trajectories/rollouts.jsonl"):
        if row["kept"] and row["validated"] is not None and row["score"] is not None:
            task = verified[row["task_id"]]
            sign = 1 if task["direction"] == "maximize" else -1
            span = abs(task["scores"]["perfect"] - task["scores"]["trivial"])
            optimism.append(sign * (row["validated"] - row["score"]) / span)
    said = answers("05_trajectories", ci_run)[3]
    better = 100 * sum(value > 0 for value in optimism) / len(optimism)
    assert f"{better:.0f} % of {len(optimism)} rollouts" in said
    check_numbers(said, {"mean": [statistics.fmean(optimism)], "min": [min(optimism)], "max": [max(optimism)]}, 3)


@pytest.fixture(scope="module")
def trained(ci_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with another log of its training, in which the student becomes surer than a coin at step 4."""
    run = tmp_path_factory.mktemp("trained")
    (run / "05_trajectories").symlink_to(ci_run / "05_trajectories")
    (run / "06_sft").mkdir()
    for seed, name in enumerate(("base", "student")):
        write_model(ci_run / "06_sft/base", run / "06_sft" / name, seed)
    rows = [{"step": step, "loss": loss, "mean_token_accuracy": 0.1 * step}
            for step, loss in enumerate((2.0, 0.7, 0.9, 0.6, 0.65, 0.8), 1)]
    # A coin's perplexity is 2: a loss of log 2 = 0.693.
    log = [{"format": FORMAT} | row for row in [*rows, {"step": 6, "train_runtime": 1.0}]]
    (run / "06_sft/training_log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in log))
    return run


def write_model(source: Path, target: Path, seed: int) -> None:
    """The model with weights that make it say something of its own."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(str(source))
    with torch.no_grad():
        for weights in model.parameters():
            weights += torch.randn_like(weights)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(str(source)).save_pretrained(target)


def test_06_the_tokens_that_carry_loss_are_those_of_the_assistant(answers: Answers, trained: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(trained / "06_sft/student"))
    own = total = 0
    for row in read(trained / "05_trajectories/sft.jsonl")[:40]:
        for message in row["messages"]:
            said = len(tokenizer(message["content"] + "<|im_end|>", add_special_tokens=False)["input_ids"])
            total += said + len(tokenizer(f"<|im_start|>{message['role']}\n\n", add_special_tokens=False)["input_ids"])
            own += said if message["role"] == "assistant" else 0
    assert answers("06_sft", trained)[1].strip() == f"{own:,} of {total:,} tokens: {100 * own / total:.0f} %"


def test_06_the_step_is_found_at_which_the_student_is_surer_than_a_coin(answers: Answers, trained: Path) -> None:
    (row,) = re.findall(r"(?m)^\d+\s+(\S+)\s+(\S+)\s+(\S+)$", answers("06_sft", trained)[2])
    assert [float(part) for part in row] == pytest.approx([4, math.exp(0.6), 0.4], abs=0.001)


def test_06_base_and_student_say_what_their_weights_say(answers: Answers, trained: Path) -> None:
    first = read(trained / "05_trajectories/sft.jsonl")[0]["messages"][:2]
    said = answers("06_sft", trained)[3]
    turns = {name: generate(trained / "06_sft" / name, first) for name in ("base", "student")}
    assert turns["base"] != turns["student"]
    for name, turn in turns.items():
        assert f"--- {name}\n{turn[:400]}\n" in said


def generate(folder: Path, messages: list[dict[str, str]]) -> str:
    """The likeliest turn of 120 tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    model = AutoModelForCausalLM.from_pretrained(str(folder)).eval()
    prompt = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    ids = tokenizer(f"{prompt}<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    out = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=120)
    return tokenizer.decode(out[0, len(ids):], skip_special_tokens=True)


TASKS, RUNS = 6, 4


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of three models; the student's runs of a task all end alike, valid on every second task."""
    run = tmp_path_factory.mktemp("evaluated")
    rows = [{"model": model, "task": f"task{task}", "run": number, "direction": "maximize", "baseline": 0.4,
             "valid": valid, "score_best": 0.1 * (5 + at + task % 2) if valid else "",
             "score_last": 0.5 if valid else "", "exit_status": "submitted" if valid else f"max_steps ({model})"}
            for at, model in enumerate(("base", "student", "teacher"))
            for task in range(TASKS) for number in range(RUNS)
            for valid in [(number == 0, task % 2 == 0, True)[at]]]
    (run / "07_mlgym_eval").mkdir()
    with (run / "07_mlgym_eval/scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return run


def test_07_valid_runs_and_other_ends_are_counted(answers: Answers, evaluated: Path) -> None:
    said = answers("07_mlgym_eval", evaluated)[1]
    check_numbers(said, {"base": (6, 24), "student": (12, 24), "teacher": (24, 24)})
    ends = re.findall(r"(?m)^\d+\s+(\w+)\s+max_steps \((\w+)\)\s+(\d+)$", said)
    assert ends == [("base", "base", "18"), ("student", "student", "12")]


def test_07_aup_is_that_of_each_pool(answers: Answers, evaluated: Path) -> None:
    import pandas as pd

    scores = pd.read_csv(evaluated / "07_mlgym_eval/scores.csv")
    whole, smaller = (compute_aup(pool) for pool in (scores, scores[scores["model"].isin(["base", "student"])]))
    said = answers("07_mlgym_eval", evaluated)[2]
    assert f"max_tau {whole.max_tau} with, {smaller.max_tau} without" in said
    both = {name: (whole.aup["best"][name], smaller.aup["best"][name]) for name in ("base", "student")}
    assert both["base"][0] != both["base"][1]
    check_numbers(said, both, 3)
    assert numbers_after(said, "teacher") == pytest.approx([whole.aup["best"]["teacher"]], abs=0.00051)


def test_07_the_interval_of_clustered_runs_is_the_wider_one(answers: Answers, evaluated: Path) -> None:
    """With tasks that go wholly right or wrong, the draws are of tasks: binomial, as they are of runs for the other."""
    from scipy.stats import binom

    said = answers("07_mlgym_eval", evaluated)[3]
    for label, draws in (("tasks, then runs", TASKS), ("runs as independent", TASKS * RUNS)):
        expected = [binom.ppf(q, draws, 0.5) / draws for q in (0.025, 0.975)]
        assert numbers_after(said, label) == pytest.approx(expected, abs=0.05), label


def test_every_exercise_is_tested_here() -> None:
    here = [name for name in globals() if name.startswith("test_0")]
    assert Counter(name[5:7] for name in here) == {name[:2]: 3 for name in STAGES}

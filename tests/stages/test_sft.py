"""Stage 06 on a handful of rows: mask, from-scratch student, saved model, and the local chat that plays it."""

import json
from pathlib import Path

import pytest
from kits.stage_kit import finish_empty

from synthkit.core.errors import ParamError, ReplyError, StageError
from synthkit.core.files import write_records
from synthkit.core.opening import open_stage
from synthkit.core.params import STAGES
from synthkit.core.profiles import check_params
from synthkit.core.stage import Stage
from synthkit.records import SftExample
from synthkit.stages.common.local_student import LocalChat
from synthkit.stages.sft import stage as sft
from synthkit.stages.sft.examples import check_mask, encode, show_row
from synthkit.stages.sft.student import train_tokenizer

TINY = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2, "kv_heads": 1}
WORDS = "read the data, run the baseline, validate, submit; accuracy rmse 0.123 data/train.csv"


class CountingBar:
    """A progress bar that is called as tqdm is, and only counts."""

    total = done = 0
    closed = False

    def __call__(self, total: int, initial: int = 0) -> "CountingBar":
        self.total, self.done = total, initial
        return self

    def update(self, n: int = 1) -> None:
        self.done += n

    def close(self) -> None:
        self.closed = True


def make_row(k: int) -> dict:
    turns = [("system", "You act in a shell."), ("user", f"TASK {k}: {WORDS}"), ("assistant", f"ls {k}"),
             ("user", "a file"), ("assistant", "submit")]
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"id": f"row-{k}", "task_id": f"t{k}", "messages": messages, "n_tokens": 60, "rollout": k,
            "score": 1.0, "baseline": 0.5, "exit_status": "submitted", "prompt_hash": "p"}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params").mkdir()
    monkeypatch.chdir(tmp_path)
    finish_empty(tmp_path / "outputs/r", *list(STAGES)[:4])
    before = open_stage("05_trajectories", {"run_dir": "outputs/r"})
    write_records(before.dir / "sft.jsonl", [make_row(k) for k in range(6)])
    before.finish(6, 6, {})
    return open_stage("06_sft", {"run_dir": "outputs/r", "from_scratch": TINY, "epochs": 2.0, "max_length": 256})


def test_training_learns_saves_and_the_saved_student_speaks(stage: Stage):
    bar = CountingBar()
    sft.run(stage, bar)
    log = sft.read_log(stage)
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]
    assert (bar.total, bar.done, bar.closed) == (12, 12, True), "six rows, twice, one a step"
    sft.check(stage)
    record = sft.finish(stage)
    assert record["kept"] == 6 and record["metrics"]["rows"] == 6
    weights = (stage.dir / "student" / "model.safetensors").read_bytes()
    assert weights != (stage.dir / "base" / "model.safetensors").read_bytes()
    sft.run(stage)
    assert (stage.dir / "student" / "model.safetensors").read_bytes() == weights, "a finished student stays as it is"
    assert not list(stage.dir.glob("**/*.bin")) and not list(stage.dir.glob("**/*.pt")), "safetensors only"
    check_local_chat(str(stage.dir / "student"))


def check_local_chat(folder: str) -> None:
    chat = LocalChat(folder, temperature=0.7, max_new_tokens=8)
    try:
        messages = make_row(1)["messages"][:2]
        first = chat.chat(messages, sample=0, seed=5)
        assert first == chat.chat(messages, sample=0, seed=5), "same seed, same reply"
        assert 0 < first.tokens_out <= 8 and first.tokens_in > 10
        with pytest.raises(ReplyError, match="context window"):
            chat.chat([{"role": "user", "content": WORDS * 60}])
    finally:
        chat.close()
    check_own_sampling(Path(folder), messages, first)


def check_own_sampling(folder: Path, messages: list[dict], expected: object) -> None:
    """What a model's own file says of sampling does not change its replies."""
    path = folder / "generation_config.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"repetition_penalty": 9.0, "suppress_tokens": [5, 6, 7]}))
    chat = LocalChat(str(folder), temperature=0.7, max_new_tokens=8)
    try:
        assert chat.chat(messages, sample=0, seed=5) == expected
    finally:
        chat.close()
        path.write_text(before)


def test_loss_stands_on_assistant_turns_only(stage: Stage):
    _, tokenizer = sft.prepare_student(stage)
    coded = encode(make_row(2)["messages"], tokenizer)
    trained = tokenizer.decode([t for t, m in zip(coded["ids"], coded["mask"], strict=True) if m])
    assert trained == "ls 2<|im_end|>submit<|im_end|>"
    table = show_row(SftExample(**make_row(2)), tokenizer, 256)
    assert (table.loc[table["role"] != "assistant", "trained"] == 0).all()
    assert (table.loc[table["role"] == "assistant", "trained"] > 0).all()


def test_a_row_cut_to_nothing_is_named_before_training(stage: Stage):
    _, tokenizer = sft.prepare_student(stage)
    with pytest.raises(StageError, match="row-0 has no assistant token within max_length=8"):
        check_mask(sft.load_inputs(stage), tokenizer, 8)


def test_a_prompt_at_inference_is_a_prefix_of_the_training_text(stage: Stage):
    _, tokenizer = sft.prepare_student(stage)
    messages = make_row(3)["messages"]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    prompt = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert whole.startswith(prompt + "ls 3")


def test_numbers_and_names_survive_the_tokenizer():
    tokenizer = train_tokenizer([WORDS] * 3, 400)
    text = 'cat > a.py <<\'EOF\'\n\tx = d["käse_1"]  # 0.8123\nEOF\n'
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert [tokenizer.decode([t]) for t in tokenizer.encode("812")] == ["8", "1", "2"]


def test_a_pretrained_model_takes_lora_through_the_same_code(stage: Stage):
    sft.run(stage)
    sft.finish(stage)
    folder = stage.dir.rename(stage.run_dir / "pretrained") / "student"
    values = {"run_dir": "outputs/r", "model": str(folder), "from_scratch": None, "lora": {"r": 4, "alpha": 8},
              "epochs": 1.0, "max_length": 256}
    tuned = open_stage("06_sft", values)
    sft.run(tuned)
    check_local_chat(str(tuned.dir / "student"))
    names = {path.name for path in (tuned.dir / "student").iterdir()}
    assert "model.safetensors" in names and not any("adapter" in name for name in names), "LoRA is merged"
    assert not (tuned.dir / "base" / "model.safetensors").exists(), "a given base model is named, not copied"


@pytest.mark.parametrize("values", [{"model": "Qwen/Qwen3-0.6B"}, {"from_scratch": None}])
def test_model_or_from_scratch_but_not_both(stage: Stage, values: dict):
    with pytest.raises(ParamError, match="exactly one of model and from_scratch"):
        check_params("06_sft", values)

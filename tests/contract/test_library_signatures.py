"""An upgrade of a library that renames or takes away what the kit leans on fails here, and says what and where."""

import ast
import sys
from importlib.metadata import version
from types import ModuleType
from typing import Any

import pytest
from library_check import find_differences, find_unlisted, list_users, read_kit
from library_uses import USES, Use, call, instance

OLD = """
class Base(Exception): pass
class Late(Base): pass
class Client:
    def __init__(self, url, *, retries=2, **more):
        self.url, self.key = url, more.pop("key", "")
    def send(self, body, *, timeout): return {"reply": body}
FILE = "state.json"
"""
PLANTED = [
    call("planted:Client", 1, "retries key", read_in="planted:Client"), instance("planted:Client", "url"),
    call("planted:Client.send", 1, "timeout", strings="reply"), Use("planted:Late", base="planted:Base"),
    Use("planted:FILE", value="state.json"),
]


def test_the_installed_libraries_have_all_that_the_kit_uses() -> None:
    assert find_differences(USES) == []


def test_the_table_lists_all_that_the_kit_takes_and_nothing_else() -> None:
    assert find_unlisted(read_kit(), USES) == []
    assert [use.path for use in USES if not list_users(use, (), read_kit())] == []
    assert len({(use.path, use.attributes) for use in USES}) == len(USES)


@pytest.mark.parametrize(("path", "change", "said"), [
    ("huggingface_hub.HfApi.dataset_info", lambda self, repo_id, *, files_metadata: None, "no longer takes `timeout`"),
    ("openai.OpenAI.post", lambda self, path, *, body, cast_to, account: None,
     "cannot be called as it is: missing a required argument: 'account'"),
    ("openai.APITimeoutError", TimeoutError, "is no APIConnectionError any more"),
    ("trl.SFTConfig", lambda output_dir, max_length, **more: None, "no longer takes `assistant_only_loss`"),
    ("transformers.AutoTokenizer", ModuleType("empty"), ".from_pretrained is gone: "),
    ("transformers.trainer.TRAINER_STATE_NAME", "state.json", "is 'state.json' and was 'trainer_state.json'"),
    ("peft.LoraConfig", lambda rank, lora_alpha, lora_dropout, target_modules, task_type: None, "no longer takes `r`"),
    ("datasets.Dataset.from_csv", lambda path_or_paths, cache=None: None, "no longer takes `cache_dir`"),
])
def test_a_change_of_a_library_is_told(path: str, change: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is, in which version, and which module of the kit needs it; nothing else is told."""
    monkeypatch.setattr(path, change)
    differences = find_differences(USES)
    library = path.partition(".")[0]
    assert [line for line in differences if not line.startswith(path)] == []
    assert [line for line in differences if line.startswith(path) and said in line
            and f"({library} {version(library)}; used in synthkit/" in line]


def test_a_class_that_is_taken_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("openai.APITimeoutError")
    (line,) = find_differences(USES)
    assert line.startswith("openai.APITimeoutError is gone: ") and "used in synthkit/" in line


@pytest.mark.parametrize(("old", "new", "said"), [
    ("", "", []),
    ("class Late(Base)", "class Late(Exception)", ["planted.Late is no Base any more"]),
    ("class Late(Base): pass", "", ["planted.Late is gone: "]),
    ('"state.json"', '"state.txt"', ["planted.FILE is 'state.txt' and was 'state.json'"]),
    ("retries=2", "tries=2", ["planted.Client no longer takes `retries`"]),
    ("retries=2", "retries, account", ["planted.Client cannot be called as it is: missing a required"]),
    ('"key"', '"token"', ["planted.Client no longer takes `key`"]),
    ("self.url", "self.base", ["planted.Client has no `url` any more"]),
    ("timeout)", "timeout_s)",
     ["planted.Client.send no longer takes `timeout`", "planted.Client.send cannot be called as it is: missing"]),
    ("body, *, timeout", "*, timeout", ["planted.Client.send cannot be called as it is: too many positional"]),
    ('"reply"', '"answer"', ["planted.Client.send no longer writes the key 'reply'"]),
])
def test_every_kind_of_change_is_found(
    old: str, new: str, said: list[str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted.py").write_text(OLD.replace(old, new) if old else OLD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    differences = find_differences(PLANTED)
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    assert len(differences) == len(said), differences
    assert all(line.startswith(start) for line, start in zip(differences, said, strict=True)), differences


@pytest.mark.parametrize(("source", "said"), [
    ("from trl import SFTConfig\nSFTConfig(output_dir='x', seed=1)", []),
    ("from trl import DPOTrainer", ["m.py: trl.DPOTrainer is not in the table"]),
    ("def f():\n    import openai\n    return openai.RateLimitError",
     ["m.py: openai.RateLimitError is not in the table"]),
    ("from huggingface_hub import errors as e\ne.OfflineModeIsEnabled",
     ["m.py: huggingface_hub.errors.OfflineModeIsEnabled is not in the table"]),
    ("import datasets.arrow_dataset as d", ["m.py: datasets.arrow_dataset is not in the table"]),
    ("from trl import SFTConfig\nSFTConfig(packing=True)", ["m.py:2: trl.SFTConfig(packing=…) is not in the table"]),
    ("from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained('a', 'b')",
     ["m.py:2: transformers.AutoTokenizer.from_pretrained is given 2 arguments, 1 in the table"]),
    ("from huggingface_hub import HfApi\ndef f(api: HfApi): api.dataset_info('x', expand=['sha'])",
     ["m.py:2: huggingface_hub.HfApi.dataset_info(expand=…) is not in the table"]),
    ("import pandas\npandas.DataFrame(packing=True).pad(1, 2)", []),
])
def test_what_the_table_does_not_list_is_found(source: str, said: list[str]) -> None:
    assert find_unlisted({"m.py": ast.parse(source)}, USES) == said


def test_the_users_of_a_use_are_those_that_name_it() -> None:
    kit = {"a.py": ast.parse("api.dataset_info(x, timeout=1)"), "b.py": ast.parse("api.dataset_info(x)"),
           "c.py": ast.parse("found.siblings")}
    use = next(use for use in USES if use.name == "dataset_info")
    assert list_users(use, (use.name, "timeout"), kit) == ["a.py"]
    assert list_users(use, (), kit) == list_users(use, (use.name, "expand"), kit) == ["a.py", "b.py"]
    assert list_users(next(use for use in USES if "siblings" in use.attributes), (), kit) == ["c.py"]

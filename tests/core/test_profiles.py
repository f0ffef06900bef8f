"""Parameters from layers: merged as told, every fault at once with the name that was meant, and no secret kept."""

from pathlib import Path

import pytest
from kits.places import ROOT

from synthkit.core.errors import ParamError
from synthkit.core.params import STAGES
from synthkit.core.profiles import load_params

PROFILES = sorted(path for path in (ROOT / "params").glob("*.yaml") if path.stem not in ("base", "topic_grid"))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(path: Path, *sets: str) -> list[str]:
    with pytest.raises(ParamError) as caught:
        load_params([path], sets)
    assert caught.value.fix
    return caught.value.cause.splitlines()


def test_base_yaml_is_the_models_defaults() -> None:
    assert load_params([ROOT / "params" / "base.yaml"]) == {name: model() for name, model in STAGES.items()}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_is_valid(path: Path) -> None:
    assert set(load_params([ROOT / "params" / "base.yaml", path])) == set(STAGES)


def test_layers_above_win_and_sections_flow_into_the_stages(tmp_path: Path) -> None:
    below = write(tmp_path / "a.yaml", "run: {seed: 1}\nteacher: {model: a, timeout_s: 5}\ntopics: {n_topics: 4}\n")
    above = write(tmp_path / "b.yaml", "teacher: {model: b}\nself_debug:\n  teacher: {model: c}\ntrajectories:\n")
    stages = load_params([below, above], ["topics.n_topics=6", "run.seed=2", "sft.from_scratch=null", "sft.model=m",
                                          "sft.lora.r=8", "hub.token_env=T", "sandbox.cpu_s=9"], run="mine")
    assert {stage.seed for stage in stages.values()} == {2}
    assert {stage.run_dir for stage in stages.values()} == {"outputs/mine"}
    assert stages["01_topics"].model_dump(include={"n_topics"}) == {"n_topics": 6}
    teachers = {name: stage.teacher for name, stage in stages.items() if "teacher" in type(stage).model_fields}
    assert {name: t.model for name, t in teachers.items()} == dict.fromkeys(teachers, "b") | {"04_self_debug": "c"}
    assert {t.timeout_s for t in teachers.values()} == {5}
    assert stages["06_sft"].from_scratch is None and stages["06_sft"].lora.r == 8
    assert stages["02_datasets"].hub.token_env == "T"
    assert {stages[name].sandbox.cpu_s for name in ("04_self_debug", "05_trajectories", "07_mlgym_eval")} == {9}


def test_what_a_stage_does_not_have_does_not_flow_into_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "run: {allow_owed: 0.1, executor: ray}\nray: {address: 'head:6379', cpus: 2}\n"
                                      "mlgym_eval: {executor: local}\n")
    stages = load_params([path])
    owing = {name: params.allow_owed for name, params in stages.items() if hasattr(params, "allow_owed")}
    assert owing == dict.fromkeys(set(STAGES) - {"06_sft"}, 0.1)
    spread = {name: params.executor for name, params in stages.items() if hasattr(params, "executor")}
    assert spread == {"03_codegen": "ray", "04_self_debug": "ray", "05_trajectories": "ray", "07_mlgym_eval": "local"}
    assert {(stages[name].ray.address, stages[name].ray.cpus) for name in spread} == {("head:6379", 2.0)}
    assert faults_of(path, "run.allow_owd=1", "ray.adress=x")[:2] == [
        "run.allow_owd: unknown parameter; did you mean 'allow_owed'?",
        "ray.adress: unknown parameter; did you mean 'address'?"]


def test_a_cluster_cannot_use_a_student_in_this_process(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "run: {executor: ray}\n")
    (fault,) = faults_of(path)
    assert fault.startswith("mlgym_eval: executor ray needs base and student behind a URL")
    served = load_params([path], ["mlgym_eval.student.base_url=http://localhost:8000/v1"])
    assert served["07_mlgym_eval"].executor == "ray"


def test_yaml_reads_numbers_as_they_are_meant(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "sft: {learning_rate: 2e-5}\n")
    assert load_params([path])["06_sft"].learning_rate == 2e-5
    assert load_params([path], ["sft.learning_rate=1e-4"])["06_sft"].learning_rate == 1e-4


def test_every_fault_of_every_stage_is_told_at_once_and_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", """
run: {sed: 3, seed: no}
teacher: {concurency: 4}
sandbax: {memory_mb: 1}
topics: {n_topic: 8, similarity: 1.5, batch_size: 2.5}
datasets: {licences: mit, unknown_licence: maybe}
trajectories: 8
sft: {lora: {rank: 8}, epochs: many}
mlgym_eval: {teacher: {modle: x}, history: lost6}
""")
    faults = faults_of(path, "self_debug.p_debug=2")
    expected = [
        "run.sed: unknown parameter; did you mean 'seed'?", "run.seed: ", "teacher.concurency: unknown parameter; did "
        "you mean 'concurrency'?", "sandbax: unknown section; did you mean 'sandbox'?",
        "topics.n_topic: unknown parameter; did you mean 'n_topics'?", "topics.similarity: ", "topics.batch_size: ",
        "datasets.licences: ", "datasets.unknown_licence: ", "trajectories: holds no parameters, only 8",
        "sft.lora.rank: unknown parameter", "sft.epochs: ", "self_debug.p_debug: ",
        "mlgym_eval.teacher.modle: unknown parameter; did you mean 'model'?", "mlgym_eval.history: ",
    ]
    assert [sum(fault.startswith(start) for fault in faults) for start in expected] == [1] * len(expected)
    assert len(faults) == len(expected)
    assert "YAML reads no" in next(fault for fault in faults if fault.startswith("run.seed"))


@pytest.mark.parametrize("text", ["topics: {teacher: {api_key: abc}}", "hub: {hf_token: abc}", "run: {password: abc}",
                                  "teacher: {key_env: sk-abcdef0123456789}", "teacher: hf_abcdefghijklmnop",
                                  "datasets: {licences: [hf_abcdefghijklmnop]}",
                                  "teacher: {base_url: 'https://me:abcdefghijk@host/v1'}"])
def test_secrets_are_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    message = "\n".join(faults_of(write(tmp_path / "a.yaml", text)))
    assert "secret" in message
    assert "abc" not in message


@pytest.mark.parametrize(("text", "expected"), [
    ("topics: [", "is not YAML"), ("topics: {n_topics: 1}\ntopics: {seed: 1}", "'topics' stands here twice"),
    ("topics:\n  seed: 1\n  seed: 2\n", "line 3"), ("- topics", "holds no sections"), ("run: {on: 1}", "run.True"),
    ("topics: {on: 1}", "topics"), ("on: {}", "True: unknown section"),
])
def test_a_file_that_is_no_parameter_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in "\n".join(faults_of(write(tmp_path / "a.yaml", text)))


def test_a_misspelt_file_or_set_or_run_is_explained(tmp_path: Path) -> None:
    path = write(tmp_path / "offline.yaml", "")
    with pytest.raises(ParamError, match=r"there is no .*ofline\.yaml(.|\n)*did you mean .*offline\.yaml"):
        load_params([tmp_path / "ofline.yaml"])
    for text in ("n_topics=3", "topics.n_topics", "topics.licences=[mit"):
        with pytest.raises(ParamError, match="--set"):
            load_params([path], [text])
    for name in ("../other", "/other", "a/b", ".hidden"):
        with pytest.raises(ParamError, match="--run"):
            load_params([path], run=name)
    with pytest.raises(ParamError, match="run_dir differs between stages"):
        load_params([path], ["topics.run_dir=outputs/other"])


def test_a_backend_with_containers_needs_an_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "sandbox: {backend: podman}")
    assert faults_of(path) == ["sandbox: backend podman or docker needs an image, the others take none"]

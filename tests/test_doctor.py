"""What doctor finds, against an endpoint on loopback: keys that are there, refused or absent are never shown."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from kits.places import ROOT

from synthkit import doctor
from synthkit.core.llm import prices
from synthkit.core.params import StageParams
from synthkit.core.profiles import load_params

KEY = "a-key-for-tests"


class Models(BaseHTTPRequestHandler):
    """Lists one model for the right key."""

    def do_GET(self) -> None:
        allowed = self.headers.get("Authorization") == f"Bearer {KEY}"
        body = json.dumps({"data": [{"id": "listed"}]}).encode() if allowed else b"{}"
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Models) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def load(*sets: str) -> dict[str, StageParams]:
    return load_params([ROOT / "params" / "base.yaml"], sets)


def check_teacher(url: str, model: str = "listed") -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.check_teachers(load(f"teacher.base_url={url}",
                                                                      f"teacher.model={model}"))}


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat loopback as any other host, so that a key is asked for."""
    monkeypatch.setattr(prices, "LOOPBACK", ())


@pytest.mark.usefixtures("hosted")
@pytest.mark.parametrize(("key", "says", "ok"), [
    (None, "OPENAI_API_KEY is not set", False), ("wrong-key", "OPENAI_API_KEY is refused", False),
    (KEY, "OPENAI_API_KEY is set", True), (f"{KEY}\n", "OPENAI_API_KEY is set", True),
])
def test_a_key_is_tried_and_not_shown(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, key: str | None, says: str, ok: bool
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    checks = check_teacher(endpoint)
    assert (checks["teacher's key"].detail, checks["teacher's key"].ok) == (says, ok)
    assert checks["teacher"].ok
    assert not key or key.strip() not in doctor.format_checks(list(checks.values()))


def test_a_model_that_is_not_listed_is_a_hint_and_no_obstacle(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert "teacher's model" not in check_teacher(endpoint)
    found = check_teacher(endpoint, "unlisted")["teacher's model"]
    assert not found.ok and not found.needed and "unlisted" in found.detail


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://[bad", "no-url", "http://"])
def test_an_endpoint_that_is_not_there_is_needed_and_missing(url: str) -> None:
    check = check_teacher(url)["teacher"]
    assert not check.ok and check.needed and check.fix


def test_sandboxes_are_tried_and_the_wanted_one_is_needed() -> None:
    checks = {check.name: check for check in doctor.check_sandboxes(load("sandbox.backend=process"))}
    assert checks["sandbox process"].ok and checks["sandbox process"].needed
    assert not checks["sandbox bwrap"].needed


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("pandas", "no-such-package"))
    assert doctor.check_packages().detail == "not installed: no-such-package"
    (tmp_path / "configs" / "tasks").mkdir(parents=True)
    (tmp_path / "configs" / "tasks" / "one.yaml").touch()
    place = f"mlgym_eval.benchmark={tmp_path}"
    assert doctor.check_benchmark(load(place, "mlgym_eval.tasks=[one]")).ok
    assert "has no task two" in doctor.check_benchmark(load(place, "mlgym_eval.tasks=[one, two]")).detail
    assert "holds no configs" in doctor.check_benchmark(load(f"{place}/none")).detail


def test_only_what_is_needed_blocks_a_run() -> None:
    assert doctor.find_blockers(load("sandbox.backend=process"), ["01_topics", "02_datasets"]) == []


@pytest.mark.parametrize(("device", "seen", "blockers"), [
    (False, False, ["gpu"]), (False, True, ["gpu"]), (True, False, ["gpu"]), (True, True, []),
])
def test_a_gpu_blocks_only_the_training_of_a_hub_model(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: bool, seen: bool, blockers: list[str]) -> None:
    """Neither a device that torch does not see will do, nor what torch says of a machine without one."""
    monkeypatch.setattr(doctor, "GPU_DEVICES", (str(tmp_path / "none"), str(tmp_path if device else tmp_path / "none")))
    monkeypatch.setattr("torch.cuda.is_available", lambda: seen)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda number: "a GPU")

    def find(*sets: str, stage: str = "06_sft") -> list[str]:
        found = doctor.find_blockers(load("sandbox.backend=process", *sets), [stage])
        return [check.name for check in found if check.name == "gpu"]

    hub = ("sft.from_scratch=null", "sft.model=Qwen/Qwen3-0.6B")
    assert find(*hub) == blockers
    assert find() == [] == find(*hub, stage="01_topics")


def test_what_a_sandbox_does_not_cover_is_told() -> None:
    found = {check.name: check for check in doctor.check_sandboxes(load())}
    told = doctor.format_checks([found["sandbox bwrap"]])
    assert "not covered: The kernel is shared" in told and "their score can be made up" in " ".join(told.split())
    assert all(len(line) <= doctor.WIDTH for line in told.splitlines())
    assert found["sandbox process"].notes == ()


@pytest.mark.parametrize("backend", ["bwrap", "podman", "docker", "process"])
def test_every_backend_says_what_it_does_not_cover(backend: str) -> None:
    from synthkit.gym.sandbox import list_uncovered

    assert len(list_uncovered(backend)) >= 2 and all(text.endswith(".") for text in list_uncovered(backend))

"""What this machine can do for a profile, found out by trying, and what to do about what is missing."""

import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlparse

import httpx2

from synthkit.core.chain import PACKAGES
from synthkit.core.endpoints import EMBEDDED
from synthkit.core.errors import ParamError, SynthkitError
from synthkit.core.llm import check_prices
from synthkit.core.llm.prices import is_loopback
from synthkit.core.params import (
    MlgymEvalParams,
    SandboxParams,
    SftParams,
    SpreadParams,
    StageParams,
    StudentParams,
    TeacherParams,
)
from synthkit.core.paths import cache_dir, find_root

Params = Mapping[str, StageParams]
MIN_FREE_GB = 2.0
GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd")
WIDTH = 120


@dataclass(frozen=True)
class Check:
    """One finding. `needed`: the profile cannot run without it."""

    name: str
    ok: bool
    needed: bool
    detail: str
    fix: str = ""
    notes: tuple[str, ...] = ()


def examine(stages: Params) -> list[Check]:
    """Every check, the needed ones of this profile marked."""
    return [
        check_python(), check_packages(), *check_sandboxes(stages), *check_engines(), check_disk(), check_gpu(stages),
        *check_teachers(stages), *check_student(stages), check_hub(stages), check_benchmark(stages),
        *check_clusters(stages),
    ]


def find_blockers(stages: Params, pending: list[str]) -> list[Check]:
    """What keeps the pending stages from running, found before any work is spent."""
    wanted = {name: stages[name] for name in pending}
    checks = [*check_sandboxes(wanted), check_disk(), *check_teachers(wanted), *check_student(wanted),
              check_hub(wanted), check_gpu(wanted), check_benchmark(wanted), *check_clusters(wanted)]
    return [check for check in checks if check.needed and not check.ok]


def check_python() -> Check:
    """Whether this Python is new enough."""
    return Check("python", sys.version_info >= (3, 11), True, sys.version.split()[0], "install Python 3.11 or newer")


def check_packages() -> Check:
    """Whether the libraries are installed that results may depend on."""
    missing = [name for name in PACKAGES if not is_installed(name)]
    detail = f"not installed: {', '.join(missing)}" if missing else f"{len(PACKAGES)} of {len(PACKAGES)} installed"
    return Check("packages", not missing, True, detail, "install requirements.lock, as `make pipeline` does")


def is_installed(name: str) -> bool:
    """Whether a distribution of this name is there; nothing is imported."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def check_sandboxes(stages: Params) -> list[Check]:
    """Each backend by running one command in it; of those in use, what they do not cover."""
    wanted = {params.sandbox.backend: params.sandbox for params in stages.values() if hasattr(params, "sandbox")}
    defaults = {name: SandboxParams.model_validate({"backend": name}) for name in ("bwrap", "process")}
    return [try_sandbox(params, name in wanted) for name, params in (defaults | wanted).items()]


def try_sandbox(params: SandboxParams, needed: bool) -> Check:
    """Whether a command runs in a new sandbox of this kind; it starts cold, for warmth is not in question."""
    from synthkit.gym.sandbox import list_uncovered, open_sandbox

    name = f"sandbox {params.backend}"
    notes = tuple(f"not covered: {text}" for text in list_uncovered(params.backend)) if needed else ()
    try:
        cold = params.model_copy(update={"warm": False})
        with tempfile.TemporaryDirectory() as folder, open_sandbox(Path(folder), cold) as sandbox:
            works = sandbox.run("echo ready", 10).output.strip() == "ready"
    except SynthkitError as error:
        return Check(name, False, needed, error.cause, error.fix)
    about = "works" if params.backend != "process" else "works, but isolates nothing"
    return Check(name, works, needed, about if works else "does not answer", "look into the sandbox by hand", notes)


def check_engines() -> list[Check]:
    """Which container engines are on the path; no profile of the kit needs one by itself."""
    return [Check(name, shutil.which(name) is not None, False, shutil.which(name) or "not found",
                  "not needed: bwrap is the default") for name in ("docker", "podman")]


def check_disk() -> Check:
    """Whether there is room for a small run where the repository lies; a GB is 10^9 bytes."""
    free = shutil.disk_usage(find_root()).free / 1e9
    return Check("disk", free >= MIN_FREE_GB, True, f"{free:.0f} GB free", f"free {MIN_FREE_GB:.0f} GB")


def check_gpu(stages: Params) -> Check:
    """A GPU is needed to fine-tune a Hub model; whether one is there, without importing torch when it is not needed."""
    sft = stages.get("06_sft")
    needed = isinstance(sft, SftParams) and sft.from_scratch is None
    if not any(Path(device).exists() for device in GPU_DEVICES):
        fix = "run stage 06 on a machine with a GPU (--only 06), or train from scratch"
        return Check("gpu", False, needed, "none", fix)
    import torch

    found = torch.cuda.is_available()
    return Check("gpu", found, needed, torch.cuda.get_device_name(0) if found else "torch sees none",
                 "install a torch build for this GPU")


def check_teachers(stages: Params) -> list[Check]:
    """Key, price and endpoint of every teacher that the stages name, each once."""
    named = [p.teacher for p in stages.values() if hasattr(p, "teacher")]
    teachers = {(teacher.base_url, teacher.key_env, teacher.model): teacher for teacher in named}
    return [check for teacher in teachers.values() for check in check_teacher(teacher)]


def check_student(stages: Params) -> list[Check]:
    """A way to serve the student, where the evaluation wants one. Its server is asked once there is a student.

    While stage 06 is among the stages, there is nothing to serve yet: then only price and address are looked at.
    """
    params = stages.get("07_mlgym_eval")
    if not isinstance(params, MlgymEvalParams) or params.student.base_url == "local":
        return []
    name, url = "student endpoint", params.student.base_url
    checks = check_price("student's price", params.student)
    if not is_url(url):
        fix = "set mlgym_eval.student.base_url to local, or to a URL such as http://localhost:8000/v1"
        return [*checks, Check(name, False, True, f"{url!r} is no address of a server", fix)]
    if "06_sft" in stages:
        return [*checks, Check(name, True, True, f"{url}; asked when stage 07 begins, with the student made by then")]
    fix = f"serve base and student of 06_sft at {url}, then run the same command again"
    return [*checks, check_url(name, url, fix)]


def check_teacher(teacher: TeacherParams) -> list[Check]:
    """Whether the key is there and taken, and the model listed; asking for the list of models costs nothing."""
    if teacher.base_url == EMBEDDED:
        return [Check("teacher", True, True, "embedded: the scripted teacher, no key")]
    key = os.environ.get(teacher.key_env, "").strip()
    answer = get_url(f"{teacher.base_url.rstrip('/')}/models", {"Authorization": f"Bearer {key}"} if key else {})
    checks = check_price("teacher's price", teacher)
    if not is_loopback(teacher.base_url):
        refused = bool(key) and isinstance(answer, httpx2.Response) and answer.status_code in (401, 403)
        detail = f"{teacher.key_env} is {'refused' if refused else 'set' if key else 'not set'}"
        checks.append(Check("teacher's key", bool(key) and not refused, True, detail, f"export {teacher.key_env}=…"))
    if isinstance(answer, str):
        fix = "correct teacher.base_url, or check the network"
        return [*checks, Check("teacher", False, True, f"{teacher.base_url} cannot be reached ({answer})", fix)]
    checks.append(Check("teacher", True, True, f"{teacher.base_url} answers"))
    if (listed := list_models(answer)) and teacher.model not in listed:
        checks.append(Check("teacher's model", False, False, f"{teacher.model} is not among those listed there",
                            "correct teacher.model, unless the endpoint takes names that it does not list"))
    return checks


def check_price(name: str, params: TeacherParams | StudentParams) -> list[Check]:
    """What is missing of the price of an endpoint beyond this machine; nothing where it is stated."""
    try:
        check_prices(params, params.base_url)
    except ParamError as error:
        return [Check(name, False, True, error.cause, error.fix)]
    return []


def is_url(text: str) -> bool:
    """Whether a text is an HTTP address with a host."""
    try:
        url = urlparse(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        return False


def list_models(answer: httpx2.Response) -> list[str]:
    """The model names of an OpenAI-compatible /models answer; empty when it is not one."""
    try:
        return [str(model["id"]) for model in answer.json()["data"]] if answer.is_success else []
    except (ValueError, KeyError, TypeError):
        return []


def check_hub(stages: Params) -> Check:
    """Whether the Hub answers; the token is looked for, not tried."""
    hubs = [p.hub for p in stages.values() if hasattr(p, "hub")]
    if not hubs or hubs[0].endpoint == EMBEDDED:
        return Check("hub", True, bool(hubs), f"embedded: real datasets, exported to {short(cache_dir())}")
    token = "set" if os.environ.get(hubs[0].token_env) else "not set (public datasets only)"
    check = check_url("hub", hubs[0].endpoint, "check hub.endpoint and the network")
    return Check(check.name, check.ok, True, f"{check.detail}; {hubs[0].token_env} is {token}", check.fix)


def check_benchmark(stages: Params) -> Check:
    """Whether the evaluation's tasks are where the profile says."""
    named = [p.benchmark for p in stages.values() if hasattr(p, "benchmark") and p.benchmark not in (EMBEDDED, "none")]
    evaluation = stages.get("07_mlgym_eval")
    for name in named:
        folder = find_root() / name / "configs" / "tasks"
        if not folder.is_dir():
            return Check("benchmark", False, True, f"{name} holds no configs/tasks",
                         "check out facebookresearch/MLGym there, or set the benchmark's path")
        wanted = evaluation.tasks or [] if isinstance(evaluation, MlgymEvalParams) else []
        if missing := [task for task in wanted if not (folder / f"{task}.yaml").is_file()]:
            return Check("benchmark", False, True, f"{name} has no task {', '.join(missing)}",
                         "correct mlgym_eval.tasks; null takes all")
    return Check("benchmark", True, bool(named), named[0] if named else "embedded: six held-out tasks")


def check_clusters(stages: Params) -> list[Check]:
    """Whether the Ray cluster is there and offers what an item takes; nothing where all stages stay local."""
    from synthkit.core.ray_cluster import connect

    spread = [params for params in stages.values() if isinstance(params, SpreadParams) and params.executor == "ray"]
    checks = []
    for ray in {params.ray.model_dump_json(): params.ray for params in spread}.values():
        try:
            with connect(ray):
                checks.append(Check("ray", True, True, f"a cluster at {ray.address}"))
        except SynthkitError as error:
            checks.append(Check("ray", False, True, error.cause, error.fix))
    return checks


def check_url(name: str, url: str, fix: str) -> Check:
    """Whether anything answers at a URL; an answer that asks for a key counts."""
    answer = get_url(url, {})
    if isinstance(answer, str):
        return Check(name, False, True, f"{url} cannot be reached ({answer})", fix)
    return Check(name, True, True, f"{url} answers")


def get_url(url: str, headers: Mapping[str, str]) -> httpx2.Response | str:
    """The answer, or the name of what went wrong."""
    try:
        return httpx2.get(url, headers=dict(headers), timeout=5)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        return type(error).__name__


def short(path: Path) -> str:
    """A path with ~ for the home folder."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def format_checks(checks: list[Check]) -> str:
    """One line a check; what is missing with its fix, and whether the profile needs it."""
    lines = []
    for check in checks:
        mark = "ok" if check.ok else "MISSING" if check.needed else "absent"
        lines.append(f"{mark:<8} {check.name:<18} {check.detail}")
        if not check.ok and check.fix:
            lines.append(f"{'':<8} {'':<18} fix: {check.fix}" if check.needed else f"{'':<27} {check.fix}")
        for note in check.notes:
            lines += textwrap.wrap(note, WIDTH, initial_indent=f"{'':<28}- ", subsequent_indent=" " * 30)
    return "\n".join(lines) + "\n"

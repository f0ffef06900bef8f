"""A run's tasks as a dataset repository on the Hugging Face Hub: shown first, refused where a licence forbids it.

Tried against a loopback server that speaks the Hub's protocol; the real Hub could not be tried where this was written.
"""

import fnmatch
import shutil
from dataclasses import dataclass
from pathlib import Path

from synthkit.core.endpoints import read_secret
from synthkit.core.errors import EndpointError, SynthkitError
from synthkit.core.hub import explain_error
from synthkit.export.card import build_card
from synthkit.gym.task import Task
from synthkit.gym.task.config import write_section

TOKEN = "HF_TOKEN"
# Licences under which a changed part of a table may be passed on, if need be under the same licence.
PUBLISHABLE = (
    "mit", "apache-2.0", "bsd*", "isc", "zlib", "unlicense", "wtfpl", "cc0-1.0", "pddl", "public-domain", "odc-by",
    "odbl", "cdla-permissive-*", "cdla-sharing-*", "cc-by-[1-4]*", "cc-by-sa-*", "cc-by-nc-[1-4]*", "cc-by-nc-sa-*",
    "gpl*", "lgpl*", "agpl*", "mpl-2.0", "etalab-2.0",
)


@dataclass(frozen=True)
class Plan:
    """What would be published: the folder is complete, nothing has been sent."""

    folder: Path
    repo_id: str
    tasks: int
    files: int
    size_bytes: int
    licences: dict[str, int]


def prepare(tasks: list[Task], folder: Path, repo_id: str, teacher: str) -> Plan:
    """Write the repository's content into an empty folder; `teacher` is named on the card.

    Raises SynthkitError that names every task whose licence forbids it; nothing is written then.
    """
    if forbidden := [task for task in tasks if not may_publish(task.meta.licence)]:
        named = ", ".join(f"{task.id} ({task.meta.dataset_id}: {task.meta.licence})" for task in forbidden)
        raise SynthkitError(f"the licence of {len(forbidden)} tasks' data does not allow publishing: {named}",
                            "leave them out with --without, or run with a narrower datasets.licences")
    for task in tasks:
        shutil.copytree(task.root / "data" / task.id, folder / "data" / task.id)
        write_section(folder / "configs" / "tasks" / f"{task.id}.yaml", task.config)
        for name, dataset in zip(task.config.dataset_configs, task.datasets, strict=True):
            write_section(folder / "configs" / name, dataset)
    title = repo_id.rpartition("/")[2].replace("-", " ").replace("_", " ")
    (folder / "README.md").write_text(build_card(tasks, title, teacher), encoding="utf-8")
    files = [path for path in folder.rglob("*") if path.is_file()]
    licences = {name: sum(task.meta.licence == name for task in tasks)
                for name in sorted({str(task.meta.licence) for task in tasks})}
    return Plan(folder, repo_id, len(tasks), len(files), sum(path.stat().st_size for path in files), licences)


def may_publish(licence: str | None) -> bool:
    """Whether a licence, by its name on the Hub, allows it; no licence and any other name do not."""
    return bool(licence) and any(fnmatch.fnmatch(str(licence).lower(), known) for known in PUBLISHABLE)


def format_plan(plan: Plan) -> str:
    """What a person reads before anything is sent: how much, under which licences, test labels included."""
    licences = ", ".join(f"{name} ({count})" for name, count in plan.licences.items())
    return (f"{plan.repo_id}: {plan.tasks} tasks, {plan.files} files, {plan.size_bytes / 1e6:.1f} MB\n"
            f"licences of the sources: {licences}\ntest labels are among the files: data/<task>/data/answers.csv\n")


def publish(plan: Plan, *, private: bool) -> str:
    """Send a plan's folder as one commit; returns the repository's URL.

    The Hub is the one of huggingface_hub's own setting, HF_ENDPOINT: its client takes no other host's answers here.
    Raises EndpointError without a token or when the Hub cannot be reached or refuses it, HubError for a bad name.
    """
    from huggingface_hub import HfApi

    token = read_secret(TOKEN)
    if not token:
        raise EndpointError(f"{TOKEN} is not set, and the Hub takes nothing without a token",
                            f"export {TOKEN}=… with the right to write")
    api = HfApi(token=token)
    try:
        api.create_repo(plan.repo_id, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(repo_id=plan.repo_id, folder_path=plan.folder, repo_type="dataset",
                          commit_message=f"{plan.tasks} tasks made by synthkit")
    except Exception as error:
        explained = explain_error(error, plan.repo_id, f"the Hub at {api.endpoint}", TOKEN)
        if explained is error:
            raise
        raise explained from error
    return f"{api.endpoint}/datasets/{plan.repo_id}"

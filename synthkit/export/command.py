"""`synthkit export`: a run's tasks to a folder or to the Hub, or its episodes to a folder."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.core.errors import SynthkitError

if TYPE_CHECKING:
    from synthkit.gym.task import Task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `trajectories` and `tasks`; each sets `export`, the function that does it and returns what to tell."""
    kinds = parser.add_subparsers(required=True, metavar="what")
    episodes = kinds.add_parser("trajectories", help="a run's episodes, for MLGym's scripts or as ATIF documents")
    episodes.add_argument("--run", type=Path, default=Path("outputs/offline"), metavar="DIR", help="the run's folder")
    episodes.add_argument("--stage", choices=["05", "07"], default="07")
    episodes.add_argument("--format", choices=["mlgym", "atif"], required=True)
    episodes.add_argument("--out", type=Path, required=True, metavar="DIR")
    episodes.set_defaults(export=export_episodes)
    tasks = kinds.add_parser("tasks", help="a run's verified tasks")
    tasks.add_argument("--run", type=Path, default=Path("outputs/offline"), metavar="DIR", help="the run's folder")
    tasks.add_argument("--format", choices=["mlgym", "harbor"], help="a folder of tasks, written to --out")
    tasks.add_argument("--out", type=Path, metavar="DIR")
    tasks.add_argument("--to", choices=["hub"], help="publish as a dataset on the Hugging Face Hub, as --repo")
    tasks.add_argument("--repo", metavar="OWNER/NAME")
    tasks.add_argument("--public", action="store_true", help="readable by everybody; else the repository is private")
    tasks.add_argument("--yes", action="store_true", help="publish what was shown")
    tasks.add_argument("--without", action="append", default=[], metavar="TASK", help="a task to leave out")
    tasks.add_argument("--backend", choices=["bwrap", "process"], default="bwrap", help="where baselines run")
    tasks.set_defaults(export=export_tasks)


def export_episodes(args: argparse.Namespace) -> str:
    """Write a stage's episodes to --out; returns how many there are. Raises SynthkitError."""
    from synthkit.export.trajectories import export_trajectories

    count = export_trajectories(args.run, args.stage, args.format, args.out)
    return f"{count} episodes in {args.out}\n"


def export_tasks(args: argparse.Namespace) -> str:
    """Write a run's verified tasks to --out, or send them to the Hub; returns what was done. Raises SynthkitError."""
    from synthkit.core.params import SandboxParams
    from synthkit.export.harbor import export_harbor
    from synthkit.export.mlgym import export_mlgym, measure_whole
    from synthkit.export.selection import load_verified

    if (args.format is None) == (args.to is None):
        raise SynthkitError("say either --format with --out, or --to hub with --repo", "see synthkit export --help")
    tasks = [task for task in load_verified(args.run) if task.id not in args.without]
    if args.to:
        return export_to_hub(args, tasks)
    if args.out is None:
        raise SynthkitError("--format needs a folder to write to", "add --out DIR")
    sandbox = SandboxParams(backend=args.backend)
    if args.format == "mlgym":
        export_mlgym(tasks, args.out, sandbox)
    else:
        export_harbor(tasks, args.out, {task.id: measure_whole(task, sandbox)[str(task.metric)] for task in tasks})
    return f"{len(tasks)} tasks in {args.out}\n"


def export_to_hub(args: argparse.Namespace, tasks: "list[Task]") -> str:
    """Show what would be published and, with --yes, publish it. Raises SynthkitError."""
    from synthkit.export.publish import format_plan, prepare, publish

    if args.repo is None:
        raise SynthkitError("--to hub needs the repository's name", "add --repo OWNER/NAME")
    with tempfile.TemporaryDirectory(prefix="synthkit-") as folder:
        plan = prepare(tasks, Path(folder), args.repo, name_teacher(args.run))
        if not args.yes:
            return f"{format_plan(plan)}nothing was published: add --yes\n"
        url = publish(plan, private=not args.public)
        return f"{format_plan(plan)}published: {url}\n"


def name_teacher(run_dir: Path) -> str:
    """The model that wrote a run's tasks, as its parameters name it."""
    import yaml

    model = yaml.safe_load((run_dir / "params.yaml").read_text(encoding="utf-8"))["codegen"]["teacher"]["model"]
    return "a scripted teacher" if model == "scripted-teacher" else str(model)

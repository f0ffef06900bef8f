"""The command line: run the notebooks, see what this machine can do, write a run's report again."""

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from synthkit.core.errors import SynthkitError
from synthkit.core.files import is_disk_full
from synthkit.core.params import STAGES, StageParams
from synthkit.core.paths import find_root
from synthkit.core.profiles import load_params

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Every error of the kit is shown as cause and fix."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    args.command_line = shlex.join(["synthkit", *given])
    try:
        return int(args.command(args))
    except SynthkitError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except OSError as error:
        full = "free some space and run the same command again" if is_disk_full(error) else "check the path"
        sys.stderr.write(f"error: {error}\n  fix: {full}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; everything finished is kept. Go on with: {args.command_line}\n")
        return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `command`, the function that runs it."""
    parser = argparse.ArgumentParser(prog="synthkit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    run = commands.add_parser("run", help="execute the notebooks of a profile, one after the other")
    run.add_argument("params", type=Path, help="a profile, for example params/offline.yaml")
    run.add_argument("--from", dest="first", metavar="NN", help="first stage, for example 03")
    run.add_argument("--to", dest="last", metavar="NN", help="last stage")
    run.add_argument("--only", metavar="NN", help="one stage")
    run.add_argument("--set", dest="sets", action="append", default=[], metavar="section.key=value")
    run.add_argument("--run", metavar="NAME", help="the run's name: results go to outputs/NAME")
    run.add_argument("--dry-run", action="store_true", help="show plan and expected cost, check all that is free")
    run.add_argument("--remake-changed-code", action="store_true",
                     help="stages that other code worked on are moved to archive/ and made again, with all after them")
    run.add_argument("--write-params", type=Path, metavar="DIR",
                     help="run nothing: write the parameters of each notebook for `papermill -f DIR/NN_name.yaml`")
    run.set_defaults(command=command_run)
    doctor = commands.add_parser("doctor", help="what this machine can do, and what to do about the rest")
    doctor.add_argument("params", type=Path, nargs="?", default=Path("params/offline.yaml"))
    doctor.set_defaults(command=command_doctor)
    report = commands.add_parser("report", help="write report.html and summary.json of a run again")
    report.add_argument("run_dir", type=Path)
    report.set_defaults(command=command_report)
    add_gym(commands.add_parser("gym", help="the environment by itself"))
    add_bench(commands.add_parser("bench", help="what this machine is capable of"))
    export = commands.add_parser("export", help="a run's tasks for others: MLGym, Harbor, the Hugging Face Hub")
    add_export(export)
    return parser


def add_export(parser: argparse.ArgumentParser) -> None:
    """`synthkit export`: its own arguments are those of synthkit/export/command.py."""
    from synthkit.export.command import add_arguments

    add_arguments(parser)
    parser.set_defaults(command=command_export)


def command_export(args: argparse.Namespace) -> int:
    """Write what was asked for, and say where it is."""
    sys.stdout.write(args.export(args))
    return 0


def add_bench(parser: argparse.ArgumentParser) -> None:
    """`synthkit bench env` and its arguments."""
    env = parser.add_subparsers(required=True, metavar="what").add_parser(
        "env", help="times of the environment, beside those of a fresh process for each command")
    env.add_argument("--n", type=int, default=200, help="measurements a figure; medians are shown")
    env.add_argument("--backend", choices=["bwrap", "process"], default="bwrap")
    env.add_argument("--json", action="store_true", help="one JSON object")
    env.set_defaults(command=command_bench_env)


def command_bench_env(args: argparse.Namespace) -> int:
    """Measure the environment on this machine and write the figures as a table or as JSON."""
    from synthkit.core.params import SandboxParams
    from synthkit.gym.bench import bench_environment, format_figures

    figures = bench_environment(SandboxParams(backend=args.backend), args.n)
    sys.stdout.write(json.dumps(figures) + "\n" if args.json else format_figures(figures))
    return 0


def add_gym(parser: argparse.ArgumentParser) -> None:
    """`synthkit gym run` and its arguments."""
    run = parser.add_subparsers(required=True, metavar="command").add_parser(
        "run", help="execute a list of actions in a task's environment: a recorded run, played again")
    run.add_argument("--mlgym-root", type=Path, required=True, metavar="DIR",
                     help="a checkout of MLGym, or any folder with configs/ and data/ in its layout")
    run.add_argument("--task", required=True, help="an id, or a path below configs/, such as tasks/battleOfSexes.yaml")
    run.add_argument("--actions", type=Path, required=True, metavar="FILE",
                     help='JSON lines, each "ls" or {"action": "ls"}; or a .traj')
    run.add_argument("--secret", action="append", default=[], metavar="PATH",
                     help="a workspace file that the agent must not see, if the task forgets to say so")
    run.add_argument("--fixed", action="append", default=[], metavar="PATH",
                     help="a workspace file that is scored as it was, whatever the agent did to it")
    run.add_argument("--max-steps", type=int, metavar="N")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--backend", choices=["bwrap", "podman", "docker", "process"], default="bwrap")
    run.add_argument("--image", help="for podman and docker")
    run.add_argument("--gpus", action="store_true", help="the host's NVIDIA GPUs are visible inside")
    run.add_argument("--json", action="store_true", help="everything, as one JSON object")
    run.set_defaults(command=command_gym_run)


def command_gym_run(args: argparse.Namespace) -> int:
    """Play a list of actions in a task's environment and write what came of each.

    Raises SynthkitError for a backend and an image that do not go together, and what the environment raises."""
    from synthkit.core.params import SandboxParams
    from synthkit.gym.task import Task
    from synthkit.gym.trajectory.replay import format_replay, read_actions, replay_actions

    task = Task.load(args.mlgym_root, args.task, secret_files=args.secret, fixed_files=args.fixed)
    try:
        sandbox = SandboxParams(backend=args.backend, image=args.image, gpus=args.gpus)
    except ValueError as error:
        raise SynthkitError(f"--backend {args.backend}: {error}", "give --image with podman and docker only") from error
    replay = replay_actions(task, read_actions(args.actions), sandbox, max_steps=args.max_steps, seed=args.seed)
    sys.stdout.write(json.dumps(replay, indent=2) + "\n" if args.json else format_replay(replay))
    return 0


def command_run(args: argparse.Namespace) -> int:
    """Run the chosen stages, or show their plan, or write their parameters; returns the exit status."""
    from synthkit.runner import run_pipeline, write_flat

    if args.only and (args.first or args.last):
        raise SynthkitError("--only runs one stage, so it cannot stand beside --from or --to", "leave one of them out")
    stages = load_profile(args.params, args.sets, args.run)
    chosen = choose_stages(args.only or args.first, args.only or args.last)
    if args.dry_run:
        from synthkit.plan import write_plan

        sys.stdout.write(write_plan(stages, chosen))
        return 0
    if args.write_params:
        written = write_flat(stages, chosen, args.write_params)
        sys.stdout.write(f"{len(written)} files are in {args.write_params}. Run the notebooks in order, each with\n"
                         f"  papermill -f {written[0]} notebooks/{written[0].stem}.ipynb OUTPUT.ipynb\n")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as a scheduler ends a job: say how to resume
    return run_pipeline(stages, chosen, sys.stdout, remake=args.remake_changed_code)


def load_profile(profile: Path, sets: Sequence[str] = (), run: str | None = None) -> dict[str, StageParams]:
    """The parameters of every stage: params/base.yaml, the profile, then `--set`.

    Raises SynthkitError outside a repository, ParamError for faults."""
    base = find_root() / "params" / "base.yaml"
    if not base.is_file():
        raise SynthkitError(f"{Path.cwd()} is not in a synthkit repository",
                            "change to the folder that holds notebooks/ and params/, or to one below it")
    return load_params([base, profile], sets, run)


def command_doctor(args: argparse.Namespace) -> int:
    """Write what was found; 1 when something is missing that the profile needs."""
    from synthkit.doctor import examine, format_checks

    checks = examine(load_profile(args.params))
    sys.stdout.write(format_checks(checks))
    return 0 if all(check.ok or not check.needed for check in checks) else 1


def command_report(args: argparse.Namespace) -> int:
    """Write summary.json and report.html of a run anew, from what its stages left."""
    from synthkit.core.lock import hold_run
    from synthkit.show.report import write_report
    from synthkit.show.summary import write_summary

    if not args.run_dir.is_dir():
        raise SynthkitError(f"there is no run folder {args.run_dir}", "give a run's folder, such as outputs/offline")
    with hold_run(args.run_dir, "synthkit report"):
        write_summary(args.run_dir)
        sys.stdout.write(f"{write_report(args.run_dir)}\n")
    return 0


def choose_stages(first: str | None, last: str | None) -> list[str]:
    """The stages from one number to another, both included. Raises SynthkitError for a number that is none."""
    names = list(STAGES)
    start = names.index(find_stage(first)) if first else 0
    end = names.index(find_stage(last)) if last else len(names) - 1
    if start > end:
        raise SynthkitError(f"--from {first} comes after --to {last}", "exchange them")
    return names[start:end + 1]


def find_stage(text: str) -> str:
    """A stage by its name, its number or its name without the number. Raises SynthkitError."""
    for name in STAGES:
        if text in (name, name[:2], name[3:]) or text.zfill(2) == name[:2]:
            return name
    raise SynthkitError(f"there is no stage {text!r}", f"choose from {', '.join(STAGES)}")

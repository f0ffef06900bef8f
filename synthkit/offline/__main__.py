"""`python -m synthkit.offline`: serve the embedded Hub and the scripted teacher until standard input closes."""

import argparse
import json
import sys
import threading
from pathlib import Path

from synthkit.core.errors import SynthkitError
from synthkit.offline.data import open_data
from synthkit.offline.hub_server import open_hub
from synthkit.offline.teacher_server import open_teacher


def main() -> None:
    """The command; it ends with status 1 and one line on stderr when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m synthkit.offline", description=__doc__)
    parser.add_argument("--teacher-port", type=int, default=0, help="default: any free port")
    parser.add_argument("--hub-port", type=int, default=0, help="default: any free port")
    parser.add_argument("--export-benchmark", type=Path, metavar="DIR", help="write the held-out tasks and stop")
    args = parser.parse_args()
    try:
        if args.export_benchmark:
            export(args.export_benchmark)
        else:
            serve(args.teacher_port, args.hub_port)
    except (SynthkitError, OSError) as error:
        # One line: whoever started this process shows the last one.
        sys.exit(" ".join(str(error).split()))


def export(folder: Path) -> None:
    """Write the held-out tasks and say where their root lies."""
    # Imports pandas, which serving does not need.
    from synthkit.offline.benchmark import export_benchmark

    say({"benchmark": str(export_benchmark(folder))})


def serve(teacher_port: int, hub_port: int) -> None:
    """Start both servers, say their URLs, and serve until standard input closes."""
    teacher, hub = open_teacher(teacher_port), open_hub(open_data(), hub_port)
    for server in (teacher, hub):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    say({
        "teacher": f"http://127.0.0.1:{teacher.server_address[1]}/v1",
        "hub": f"http://127.0.0.1:{hub.server_address[1]}",
    })
    sys.stdin.read()


def say(line: dict[str, str]) -> None:
    """One JSON line on stdout, for the process that started this one."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

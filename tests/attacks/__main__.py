"""`python -m tests.attacks`: every attack against the gym on this machine, as a table. Exit code 1 if one succeeds."""

import sys
import tempfile
from pathlib import Path

from . import ATTACKS
from .kit import PROFILES, open_world
from .runner import Outcome, play_all


def main() -> int:
    """Play the attacks of the families named on the command line, or all; returns the exit code."""
    wanted = sys.argv[1:]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder, open_world(Path(folder) / "world") as world:
        for profile in PROFILES:
            chosen = [a for a in ATTACKS if a.profile == profile and (not wanted or a.family in wanted)]
            for outcome in play_all(world, profile, chosen, Path(folder) / profile) if chosen else ():
                attack = outcome.attack
                row = f"{attack.name[:52]:53}{attack.family:11}{outcome.line:92}{outcome.verdict}"
                print(row.encode("utf-8", "replace").decode(), flush=True)
                outcomes.append(outcome)
    failed = [outcome for outcome in outcomes if outcome.faults]
    print(f"{len(ATTACKS)} attacks in the suite, {len(outcomes)} looked at, {len(failed)} with faults")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

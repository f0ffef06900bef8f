"""Opening a stage: parameters and earlier stages checked, its folder kept or moved aside as the resume mode says."""

import os
import random
import time
import uuid
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from synthkit.core import chain
from synthkit.core.chain import load_stage_record, read_opened
from synthkit.core.code_hash import hash_code
from synthkit.core.errors import RecordError, StageError
from synthkit.core.files import FORMAT
from synthkit.core.fingerprint import compute_fingerprint
from synthkit.core.paths import find_root
from synthkit.core.profiles import check_params
from synthkit.core.stage import Stage


def open_stage(name: str, values: Mapping[str, Any]) -> Stage:
    """Check parameters and the stages before, apply the resume mode, seed Python and numpy, and make the folder.

    `values` holds the parameters by name; other names in it (a notebook's globals) are passed over. A stage that is
    complete is opened without writing anything. Raises ParamError or StageError with cause and fix, before any work.
    """
    params = check_params(name, values)
    run_dir = find_root() / params.run_dir
    chain.check_chain(run_dir, name)
    below = chain.name_below(run_dir, name)
    stage = Stage(
        name, params, run_dir, run_dir / name, os.environ.get("SYNTHKIT_ATTEMPT") or new_attempt(),
        compute_fingerprint(name, params, below), resumed=False, finished=False, started=time.time(),
        made_from=below, code=hash_code(name),
    )
    if chain.may_reuse(name, params, run_dir):
        look_at(stage)
    else:
        begin(stage)
    quiet_bars()
    random.seed(params.seed)
    np.random.seed(params.seed % 2**32)
    return stage


def look_at(stage: Stage) -> None:
    """Take in a complete stage. Its record is touched only where it is wrong about the code that made it."""
    record = load_stage_record(stage.run_dir, stage.name) or {}
    stage.resumed = stage.finished = True
    stage.codes, stage.spent = list(record["codes"]), float(record["seconds"])
    stage.folder_id = str(read_opened(stage.dir).get("folder", ""))
    if record.get("made_by_other_code", False) != stage.made_by_other_code:
        try:
            with stage.hold():
                chain.mark_code(stage.run_dir, stage.name)
        except (StageError, RecordError, OSError):
            return  # Somebody is at work there, or nothing can be written: the mark waits, the reader does not.


def begin(stage: Stage) -> None:
    """Make the stage's folder ready for work, what lies there kept or moved aside as the resume mode says."""
    with stage.hold():
        apply_resume(stage.params.resume, stage.dir, stage.fingerprint)
        stage.resumed = holds_work(stage.dir)
        record, old = load_stage_record(stage.run_dir, stage.name), read_opened(stage.dir)
        stage.codes = chain.list_codes(stage.dir)
        stage.folder_id = str(old.get("folder") or uuid.uuid4().hex[:12])
        stage.spent = float(record["seconds"] if record else old.get("seconds_before", 0.0))
        if old and not record:
            stage.spent += max(0.0, newest_change(stage.dir) - float(old["opened_at"]))
        stage.note_opening()


def apply_resume(resume: str, folder: Path, fingerprint: str) -> None:
    """Keep the folder or move it to archive/; `always` refuses to go on when results could differ.

    Raises StageError, too, for work that another version of the kit began in a format of its own.
    """
    if not holds_work(folder):
        return
    opened = read_opened(folder)
    if opened and opened.get("format", 1) != FORMAT and resume != "never":
        found = opened.get("format", 1)
        raise StageError(f"{folder.name} was begun by another version of the kit (format {found}, this one reads "
                         f"{FORMAT})", "set resume to never, so that it is moved to archive/, or name a new run")
    same = opened.get("fingerprint") == fingerprint
    if resume == "always" and not same:
        fix = "set resume to if_possible (the old folder is then moved to archive/) or restore the parameters"
        raise StageError(f"{folder.name} was made with other parameters or inputs, so it cannot be resumed", fix)
    if resume == "never" or not same:
        chain.archive_stage(folder.parent, folder.name)


def quiet_bars() -> None:
    """Stages show their own progress; the libraries' bars would only fill a notebook with red text."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", message="IProgress not found")


def holds_work(folder: Path) -> bool:
    """Whether there is anything in a stage's folder."""
    return folder.is_dir() and any(folder.iterdir())


def newest_change(folder: Path) -> float:
    """When anything directly in a folder was last written, in seconds of the system's clock."""
    return max(path.stat().st_mtime for path in folder.iterdir())


def new_attempt() -> str:
    """The id of one attempt to run a stage: the time in UTC, and four characters that tell two of a second apart."""
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:4]

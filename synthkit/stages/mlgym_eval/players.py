"""Who plays: base, student and teacher, each as one chat call, from this process or from a server."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from synthkit.core.chain import load_stage_record
from synthkit.core.llm import Reply
from synthkit.core.params import MlgymEvalParams, StudentParams, TeacherParams
from synthkit.core.paths import locate
from synthkit.core.stage import Stage, params_as

Chat = Callable[..., Reply]


def params_of(stage: Stage) -> MlgymEvalParams:
    """The parameters of this stage."""
    return params_as(stage, MlgymEvalParams)


@contextmanager
def open_model(stage: Stage, name: str) -> Iterator[Chat]:
    """The chat call of base, student or teacher, open for the block. Raises EndpointError when it cannot be had."""
    params = params_of(stage)
    if name == "teacher":
        yield stage.open_chat(params.teacher).chat
    elif params.student.base_url != "local":
        # A student that was trained anew has the old one's name, and must not get its replies.
        weights = (load_stage_record(stage.run_dir, "06_sft") or {}).get("results", "")
        yield stage.open_chat(describe_server(params.student, name, params.teacher.budget_usd), weights).chat
    else:
        with open_local(find_model(stage, name), params.student) as chat:
            yield chat


def describe_server(student: StudentParams, name: str, budget_usd: float) -> TeacherParams:
    """The server of base and student as an endpoint of a chat client; it knows them by these names."""
    return TeacherParams(
        model=name, base_url=student.base_url, temperature=student.temperature,
        max_output_tokens=student.max_new_tokens, key_env="STUDENT_API_KEY",
        usd_per_mtok_in=student.usd_per_mtok_in, usd_per_mtok_out=student.usd_per_mtok_out, budget_usd=budget_usd,
    )


@contextmanager
def open_local(model: str, student: StudentParams) -> Iterator[Chat]:
    """The chat call of a model that runs in this process, from its folder or Hub id."""
    from synthkit.stages.common.local_student import LocalChat

    chat = LocalChat(model, temperature=student.temperature, max_new_tokens=student.max_new_tokens)
    try:
        yield chat.chat
    finally:
        chat.close()


def find_model(stage: Stage, name: str) -> str:
    """The folder of base or student in stage 06, or the Hub id that the base student came from."""
    folder = stage.input("06_sft") / name
    pointer = folder / "model_id.json"
    return locate(str(json.loads(pointer.read_text())["model"])) if pointer.exists() else str(folder)

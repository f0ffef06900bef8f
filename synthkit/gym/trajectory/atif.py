"""An episode as an ATIF document: the trajectory format of Harbor, which viewers and training pipelines read.

Version 1.8 of the Agent Trajectory Interchange Format (Harbor's RFC 0001). A step of the model holds its call and, in
the same step, what came back. Tokens are counts, costs USD.
"""

from typing import Any

import synthkit
from synthkit.gym.agent.parsing import strip_think
from synthkit.gym.agent.tools import find_call
from synthkit.gym.environment import HANDING_IN
from synthkit.gym.trajectory.trajectory import Step, Trajectory

VERSION = "ATIF-v1.8"
# What stands as the action of a last step that the agent was given, not asked for.
NOT_ASKED_FOR = {*HANDING_IN} - {"submit"}


def write_atif(trajectory: Trajectory) -> dict[str, Any]:
    """The document of an episode: the system message and the task, then one step per reply.

    An action is the call of the tool that says it (`tools.py`), whatever format the model replied in. A step without a
    reply, such as the one that ends an episode for time, has an empty message and no call.
    """
    told = [message for message in trajectory.messages[:2] if message["role"] in ("system", "user")]
    steps: list[dict[str, Any]] = [{"source": message["role"], "message": message["content"]} for message in told]
    steps += [write_step(trajectory, at) for at in range(len(trajectory.steps))]
    return {
        "schema_version": VERSION,
        "agent": {"name": "synthkit", "version": synthkit.__version__, "model_name": trajectory.model},
        "steps": [{"step_id": number} | step for number, step in enumerate(steps, 1)],
        "final_metrics": {
            "total_prompt_tokens": trajectory.tokens_in, "total_completion_tokens": trajectory.tokens_out,
            "total_cost_usd": trajectory.usd, "total_steps": len(steps),
        },
    }


def write_step(trajectory: Trajectory, at: int) -> dict[str, Any]:
    """One step of the model; its own metrics only where they were recorded."""
    step = trajectory.steps[at]
    said: dict[str, Any] = {"source": "agent", "message": step.thought or strip_think(step.response).strip()}
    said["model_name"] = trajectory.model
    if thinking := find_thinking(step.response):
        said["reasoning_content"] = thinking
    said |= write_call(step, f"call_{at + 1}")
    if at < len(trajectory.step_usage):
        usage = trajectory.step_usage[at]
        said["metrics"] = {"prompt_tokens": usage["tokens_in"], "completion_tokens": usage["tokens_out"],
                           "cost_usd": usage["usd"]}
    return said


def write_call(step: Step, call_id: str) -> dict[str, Any]:
    """The call and its result; an ending that the model did not ask for is a result without a call."""
    result = {"content": step.observation}
    if not step.response or (step.action in NOT_ASKED_FOR and not step.thought):
        return {"observation": {"results": [result]}}
    name, arguments = find_call(step.action)
    call = {"tool_call_id": call_id, "function_name": name, "arguments": arguments}
    return {"tool_calls": [call], "observation": {"results": [{"source_call_id": call_id} | result]}}


def find_thinking(response: str) -> str:
    """What stands in the <think> block that a response starts with."""
    text = response.lstrip()
    return text.removeprefix("<think>").partition("</think>")[0].strip() if text.startswith("<think>") else ""

"""The chat client of a stage: builds requests, asks for replies in free text or as forms, knows the price.

Any OpenAI-compatible endpoint. How a request gets there, is paid for and kept is the work of a Sender, which may be
in another process. Tried against loopback servers that speak the protocol, faults included; not against a paid
endpoint.
"""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from synthkit.core.errors import CutReply, ReplyError
from synthkit.core.llm.completions import Reply
from synthkit.core.llm.forms import describe_fault, describe_form, read_form, write_schema
from synthkit.core.llm.prices import price_tokens
from synthkit.core.llm.sending import MeteredSender, Sender
from synthkit.core.params import TeacherParams

M = TypeVar("M", bound=BaseModel)
Messages = list[dict[str, str]]


class ChatClient:
    """The teacher of one stage, or a student that is served. Safe for threads; opened once per stage.

    `weights` is a hash of a student's weights, so that a retrained one is asked anew; '' for a teacher. Without
    `sender` the requests leave from this process: then raises EndpointError without a key, ParamError without prices
    for an endpoint beyond this machine.
    """

    def __init__(self, teacher: TeacherParams, run_dir: Path, stage: str, *, weights: str = "",
                 sender: Sender | None = None):
        self.teacher = teacher
        self.sender = sender or MeteredSender(teacher, run_dir, stage, weights=weights)

    def chat(self, messages: Messages, *, sample: int = 0, seed: int | None = None,
             tools: list[dict[str, Any]] | None = None) -> Reply:
        """One reply in free text; one that the token limit cut is given back with `cut` true.

        `sample` tells repeated requests apart; `seed` is sent when the teacher takes one. `tools` are offered to the
        model in OpenAI's form, as the gym's `list_tools` gives them. Raises the ReplyError of its class for a reply
        that cannot be used, ContextOverflow where the conversation is too long, TransientEndpointError for what may
        pass, EndpointError and BudgetError for what a person has to act on.
        """
        return self._send(messages, {"tools": tools}, sample, seed)

    def ask(
        self, messages: Messages, form: type[M], *, sample: int = 0, seed: int | None = None
    ) -> tuple[M, list[Reply]]:
        """A reply as a filled-in form, and all replies that it took. Raises as `chat` does.

        A reply that does not fit is sent back once with the fault, then it is a ReplyError; one that the token limit
        cut is a CutReply at once, since the same form would be cut again.
        """
        options = {"response_format": describe_form(form, self.teacher.structured)}
        if self.teacher.structured != "json_schema":
            messages = [*messages, {"role": "user", "content": write_schema(form)}]
        first = self._send(messages, options, sample, seed)
        try:
            return read_form(first.text, form), [first]
        except ValidationError as error:
            fault = self._describe(first, form, error)
        again = [
            *messages, {"role": "assistant", "content": first.text},
            {"role": "user", "content": f"That does not fit the form: {fault}. Send the whole JSON object again."},
        ]
        second = self._send(again, options, sample, seed)
        try:
            return read_form(second.text, form), [first, second]
        except ValidationError as error:
            fault = self._describe(second, form, error)
            raise ReplyError(f"no {form.__name__} after one repair: {fault}") from error

    def price(self, tokens_in: int, tokens_out: int) -> float:
        """USD at the list price of the parameters; a price that is not set counts as 0."""
        return price_tokens(self.teacher, tokens_in, tokens_out)

    def _describe(self, reply: Reply, form: type[BaseModel], error: ValidationError) -> str:
        if reply.cut:
            cause = f"the token limit of {self.teacher.max_output_tokens} cut a {form.__name__}"
            raise CutReply(cause, "raise teacher.max_output_tokens") from error
        return describe_fault(error)

    def _send(self, messages: Messages, options: dict[str, Any], sample: int, seed: int | None) -> Reply:
        teacher = self.teacher
        request = {
            "model": teacher.model, "messages": messages, "max_completion_tokens": teacher.max_output_tokens,
            "temperature": teacher.temperature, "seed": seed if teacher.send_seed else None, **options,
        }
        return self.sender.send({name: value for name, value in request.items() if value is not None}, sample, seed)

"""Replies as forms: the JSON schema that a reply has to follow, how it is asked for, and how it is read."""

import json
import re
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from synthkit.core.faults import write_faults

M = TypeVar("M", bound=BaseModel)
FENCED = re.compile(r"^\s*```(?:json)?\s*\n(.*)\n\s*```\s*$", re.DOTALL)


@cache
def describe_form(form: type[BaseModel], structured: str) -> dict[str, Any] | None:
    """The response_format for a form, as strict as the teacher's endpoint allows; None where it takes none."""
    if structured == "text":
        return None
    if structured == "json_object":
        return {"type": "json_object"}
    from openai.lib._pydantic import to_strict_json_schema

    schema = {"name": form.__name__, "schema": to_strict_json_schema(form), "strict": True}
    return {"type": "json_schema", "json_schema": schema}


@cache
def write_schema(form: type[BaseModel]) -> str:
    """The request for a form in words, for an endpoint that takes no schema."""
    return "Answer with one JSON object of this schema and nothing else:\n" + json.dumps(form.model_json_schema())


def read_form(text: str, form: type[M]) -> M:
    """A form from a reply that is JSON, with or without a code fence. Raises pydantic's ValidationError."""
    fenced = FENCED.match(text)
    return form.model_validate_json(fenced.group(1) if fenced else text)


def describe_fault(error: ValidationError) -> str:
    """What does not fit a form, in the words that the model is asked to mend it with."""
    return write_faults(error, most=5, whole="the reply")

"""How six servers refuse a request, each in its own words: status, body and headers, as their sources and answers have
them.

vLLM 0.10 to 0.19 (`VLLMValidationError`, the parameter in `param`), SGLang (`tokenizer_manager`), llama.cpp's server
(`exceed_context_size_error`), Ollama (its OpenAI route), OpenAI and Azure.
"""

from typing import Any

Refusal = tuple[int, Any, dict[str, str]]
DIALECTS = ("vllm", "sglang", "llama_cpp", "ollama", "openai", "azure")
FIELDS = {"model", "messages", "max_completion_tokens", "temperature", "seed", "tools", "response_format"}


def word_error(message: str, kind: str, code: Any = None, param: str | None = None, **more: Any) -> dict[str, Any]:
    """An error as OpenAI's API frames it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code, **more}}


def refuse_length(dialect: str, prompt: int, limit: int, window: int) -> Refusal | None:
    """A conversation that is too long; vLLM and SGLang count the reply's limit with it, the others do not."""
    if prompt + (limit if dialect in ("vllm", "sglang") else 0) <= window:
        return None
    return 400, word_length(dialect, prompt, limit, window), {}


def word_length(dialect: str, prompt: int, limit: int, window: int) -> dict[str, Any]:
    if dialect == "vllm":
        return word_error(
            f"This model's maximum context length is {window} tokens. However, you requested {limit} output tokens and "
            f"your prompt contains at least {prompt} input tokens, for a total of at least {prompt + limit} tokens. "
            "Please reduce the length of the input prompt or the number of requested output tokens. "
            f"(parameter=input_tokens, value={prompt})", "BadRequestError", 400, "input_tokens")
    if dialect == "sglang":
        message = (f"The input ({prompt} tokens) is longer than the model's context length ({window} tokens)."
                   if prompt >= window else
                   f"Requested token count exceeds the model's maximum context length of {window} tokens. You "
                   f"requested a total of {prompt + limit} tokens: {prompt} tokens from the input messages and {limit} "
                   "tokens for the completion. Please reduce the number of tokens in the input messages or the "
                   "completion to fit within the limit.")
        return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
    if dialect == "llama_cpp":
        return {"error": {
            "code": 400, "message": f"request ({prompt} tokens) exceeds the available context size ({window} tokens), "
            "try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": prompt, "n_ctx": window}}
    if dialect == "ollama":
        return word_error(f"prompt too long; exceeded max context length by {prompt - window} tokens",
                          "invalid_request_error")
    return word_error(
        f"This model's maximum context length is {window} tokens. However, your messages resulted in {prompt} tokens. "
        "Please reduce the length of the messages.", "invalid_request_error", "context_length_exceeded", "messages")


def refuse_limit(dialect: str, limit: int, window: int, output_limit: int) -> Refusal | None:
    """A limit for the reply that the server cannot keep; llama.cpp and Ollama lower it without a word."""
    if dialect == "vllm" and limit > window:
        return 400, word_error(f"max_tokens={limit}cannot be greater than max_model_len=max_total_tokens={window}. "
                               "Please request fewer output tokens.", "BadRequestError", 400, "max_tokens"), {}
    if dialect in ("openai", "azure") and limit > output_limit:
        return 400, word_error(
            f"max_tokens is too large: {limit}. This model supports at most {output_limit} completion tokens, whereas "
            f"you provided {limit}.", "invalid_request_error", "invalid_value", "max_tokens"), {}
    return None


def refuse_unknown(dialect: str, name: str) -> Refusal | None:
    """A field that the API does not have; only OpenAI and Azure refuse it."""
    if dialect not in ("openai", "azure"):
        return None
    return 400, word_error(f"Unknown parameter: '{name}'.", "invalid_request_error", "unknown_parameter", name), {}


def refuse_filtered(dialect: str) -> Refusal:
    """A prompt that a content filter stops, as Azure words it; OpenAI has its own code for it."""
    if dialect != "azure":
        return 400, word_error("Your request was rejected as a result of our safety system.", "invalid_request_error",
                               "content_policy_violation"), {}
    return 400, word_error(
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please "
        "modify your prompt and retry.", "", "content_filter", "prompt", status=400, innererror={
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"violence": {"filtered": True, "severity": "high"}}}), {}


def refuse_busy(status: int = 429, **headers: str) -> Refusal:
    """A server that has too much to do, and says when to come back."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, word_error("Rate limit reached, please try again later.", "rate_limit_error"), named

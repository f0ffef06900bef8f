"""A saved model as a chat endpoint inside this process: what a small student needs at evaluation.

Requests of concurrent episodes are answered in batches. Sampling adds seeded Gumbel noise to each
row's own logits, so a reply depends on its messages and its seed, not on what else was in the batch.
Nothing constrains the decoding. A larger student is served by vLLM and reached through ChatClient.
"""

import queue
import threading
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from synthkit.core.errors import ContextOverflow, EndpointError, TransientEndpointError
from synthkit.core.llm import Reply
from synthkit.core.prompts import CHAT_TEMPLATE

BATCH = 16
GATHER_S = 0.02
SHORT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


@dataclass
class Request:
    """A tokenised prompt that waits for its reply."""

    ids: list[int]
    seed: int
    reply: "Future[Reply]" = field(default_factory=Future)


class LocalChat:
    """Chat with a saved model (a folder or Hub id); the same `chat` call as ChatClient, safe for many threads."""

    def __init__(self, model: str, *, temperature: float, max_new_tokens: int):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False, padding_side="left")
            weights = AutoModelForCausalLM.from_pretrained(model, trust_remote_code=False, use_safetensors=True)
        except (OSError, ValueError) as error:
            cause = f"no model can be loaded from {model}: {str(error).splitlines()[0]}"
            raise EndpointError(cause, "run stage 06_sft first") from error
        self.model = weights.to(self.device).eval()
        # What a model's own file says of sampling (top_k, a penalty for repetition) is not what is measured here.
        self.model.generation_config = GenerationConfig()
        self.tokenizer.chat_template = CHAT_TEMPLATE.read_text()
        self.temperature, self.max_new_tokens = temperature, max_new_tokens
        self.context = self.model.config.max_position_embeddings
        self.closing, self.closed = threading.Lock(), False
        self.waiting: queue.Queue[Request | None] = queue.Queue()
        self.worker = threading.Thread(target=self._serve, daemon=True)
        self.worker.start()

    def chat(self, messages: list[dict[str, str]], *, sample: int = 0, seed: int | None = None) -> Reply:
        """One sampled reply.

        Raises ContextOverflow when the conversation no longer fits the context window, TransientEndpointError when
        the memory does not suffice for this request alone.
        """
        ids = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        if len(ids) + self.max_new_tokens > self.context:
            raise ContextOverflow(f"{len(ids)} tokens of prompt do not fit the context window of {self.context}")
        request = Request(ids, seed=(seed or 0) * 1009 + sample)
        with self.closing:
            if self.closed:
                raise CancelledError
            self.waiting.put(request)
        return request.reply.result()

    def close(self) -> None:
        """End the model's thread, once what it has been asked is answered; whoever asks later gets CancelledError."""
        with self.closing:
            self.closed = True
            self.waiting.put(None)
        self.worker.join()

    def _serve(self) -> None:
        while (first := self.waiting.get()) is not None:
            self._answer([first, *self._gather()])

    def _answer(self, batch: list[Request]) -> None:
        """Answer a batch; one that the memory does not suffice for in halves, each by itself."""
        try:
            replies = self._generate(batch)
        except Exception as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                failure = explain_memory(error) if is_out_of_memory(error) else error
                for request in batch:
                    request.reply.set_exception(failure)
                return
        else:
            for request, reply in zip(batch, replies, strict=True):
                request.reply.set_result(reply)
            return
        # Outside the handler: the error holds the frames, and they the tensors, that did not fit.
        free_memory()
        half = len(batch) // 2
        self._answer(batch[:half])
        self._answer(batch[half:])

    def _gather(self) -> list[Request]:
        more: list[Request] = []
        while len(more) < BATCH - 1:
            try:
                request = self.waiting.get(timeout=GATHER_S)
            except queue.Empty:
                break
            if request is None:
                self.waiting.put(None)
                break
            more.append(request)
        return more

    def _generate(self, batch: list[Request]) -> list[Reply]:
        import torch

        rows = self.tokenizer.pad({"input_ids": [r.ids for r in batch]}, return_tensors="pt").to(self.device)
        noise = [make_noise(batch, self.temperature)] if self.temperature > 0 else []
        with torch.inference_mode():
            out = self.model.generate(
                **rows, max_new_tokens=self.max_new_tokens, do_sample=False, logits_processor=noise,
                eos_token_id=self.tokenizer.eos_token_id, pad_token_id=self.tokenizer.pad_token_id,
            )
        new = out[:, rows["input_ids"].shape[1]:]
        return [self._reply(request, ids.tolist()) for request, ids in zip(batch, new, strict=True)]

    def _reply(self, request: Request, ids: list[int]) -> Reply:
        end = self.tokenizer.eos_token_id
        used = ids.index(end) + 1 if end in ids else len(ids)
        text = self.tokenizer.decode(ids[:used], skip_special_tokens=True)
        return Reply(text=text, tokens_in=len(request.ids), tokens_out=used, usd=0.0, cached=False,
                     finish_reason="stop" if end in ids else "length")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory is short: torch's own class, or a RuntimeError of the CPU's in words."""
    import torch

    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in SHORT_OF_MEMORY))


def explain_memory(error: Exception) -> TransientEndpointError:
    """The error of one request that does not fit by itself; others may hold the memory now."""
    cause = f"the memory does not suffice for one reply of the local model ({type(error).__name__})"
    return TransientEndpointError(cause, "free memory, or serve the model and give its base_url")


def free_memory() -> None:
    """Give back what the failed batch held, for the smaller one."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def make_noise(batch: list[Request], temperature: float) -> Any:
    """A logits processor: the arg-max of logits/temperature + Gumbel noise is a sample at that temperature."""
    import torch
    from transformers import LogitsProcessor

    generators = [torch.Generator().manual_seed(r.seed * 7919 + len(r.ids)) for r in batch]

    class SeededGumbel(LogitsProcessor):  # type: ignore[misc]  # transformers is Any here.
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            size = scores.shape[1]
            uniform = torch.stack([torch.rand(size, generator=g) for g in generators]).to(scores.device)
            return scores.float() / temperature - torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))

    return SeededGumbel()

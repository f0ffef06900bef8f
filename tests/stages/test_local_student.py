"""The local student when memory is short: a batch is halved and tried again, and one request alone is owed."""

import queue
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from synthkit.core.errors import ContextOverflow, TransientEndpointError
from synthkit.core.llm import Reply
from synthkit.stages.common.local_student import LocalChat, Request


def make_chat(generate: Callable[[list[Request]], list[Reply]]) -> LocalChat:
    """A chat without a model and without its thread, whose batches are answered by a function."""
    chat = LocalChat.__new__(LocalChat)
    chat._generate = generate  # type: ignore[method-assign]
    chat.waiting = queue.Queue()
    return chat


def reply_each(batch: list[Request]) -> list[Reply]:
    return [Reply(str(request.seed), 1, 1, 0.0, cached=False) for request in batch]


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory"),
])
def test_a_batch_that_does_not_fit_is_halved_and_tried_again(error: Exception) -> None:
    sizes: list[int] = []

    def generate(batch: list[Request]) -> list[Reply]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise error
        return reply_each(batch)

    batch = [Request([1], seed) for seed in range(7)]
    make_chat(generate)._answer(batch)
    assert [request.reply.result(0).text for request in batch] == [str(seed) for seed in range(7)]
    assert sizes == [7, 3, 1, 2, 4, 2, 2]


def test_one_request_that_does_not_fit_is_owed_and_the_others_are_answered() -> None:
    def generate(batch: list[Request]) -> list[Reply]:
        if any(request.seed == 2 for request in batch):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return reply_each(batch)

    batch = [Request([1], seed) for seed in range(4)]
    make_chat(generate)._answer(batch)
    with pytest.raises(TransientEndpointError, match="memory does not suffice"):
        batch[2].reply.result(0)
    assert [batch[seed].reply.result(0).text for seed in (0, 1, 3)] == ["0", "1", "3"]


def test_another_fault_is_the_whole_batchs() -> None:
    def generate(batch: list[Request]) -> list[Reply]:
        raise RuntimeError("shapes do not match")

    batch = [Request([1], seed) for seed in range(2)]
    make_chat(generate)._answer(batch)
    for request in batch:
        with pytest.raises(RuntimeError, match="shapes"):
            request.reply.result(0)


def test_a_reply_says_whether_the_limit_cut_it() -> None:
    chat = make_chat(reply_each)
    chat.tokenizer = SimpleNamespace(eos_token_id=9, decode=lambda ids, **options: " ".join(map(str, ids)))
    ended, cut = (chat._reply(Request([1, 2], 0), ids) for ids in ([3, 9, 9], [3, 4, 5]))
    assert (ended.text, ended.finish_reason, ended.tokens_out, ended.cut) == ("3 9", "stop", 2, False)
    assert (cut.finish_reason, cut.tokens_out, cut.cut) == ("length", 3, True)


def test_a_conversation_that_does_not_fit_is_an_overflow() -> None:
    chat = make_chat(reply_each)

    def encode(messages: Any, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [1] * 90}

    chat.tokenizer = SimpleNamespace(apply_chat_template=encode)
    chat.context, chat.max_new_tokens = 100, 20
    with pytest.raises(ContextOverflow, match="context window of 100"):
        chat.chat([])

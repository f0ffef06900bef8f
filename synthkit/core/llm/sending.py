"""Requests on their way to an endpoint: answered from the cache, or sent, each attempt reserved and settled by itself.

What had arrived is kept before it is charged, so a kill between the two loses no reply that was paid for; what
was under way then stands in the ledger as presumed.
"""

import json
import random
import threading
from pathlib import Path
from typing import Any, Protocol

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from synthkit.core.endpoints import EMBEDDED, resolve_endpoint
from synthkit.core.executor import pause, raise_if_stopped
from synthkit.core.fingerprint import hash_embedded
from synthkit.core.ledger import Ledger
from synthkit.core.llm.cache import Flights, ReplyCache, hash_request
from synthkit.core.llm.completions import BYTES_PER_TOKEN, Completion, NotACompletion, Reply, read_completion
from synthkit.core.llm.endpoint import ChatEndpoint, name_place
from synthkit.core.llm.faults import Failure
from synthkit.core.llm.prices import check_prices, is_priced, price_completion, price_request
from synthkit.core.params import TeacherParams

FIRST_WAIT_S, MOST_WAIT_S = 0.5, 8.0


class Sender(Protocol):
    """What a ChatClient sends its requests through."""

    def send(self, request: dict[str, Any], sample: int, seed: int | None) -> Reply:
        """The reply to a request, the body of a chat completion.

        `sample` tells repeated requests apart, and `seed` counts whether the request holds it or not. Raises
        ReplyError of the class of what came, TransientEndpointError, EndpointError or BudgetError.
        """
        ...


class MeteredSender:
    """Sends the requests of one stage within the run's budget; safe for threads.

    `weights` is a hash of the model's weights where they may change under the same name. Raises ParamError where an
    endpoint beyond this machine has no price, EndpointError without a key.
    """

    def __init__(self, teacher: TeacherParams, run_dir: Path, stage: str, *, weights: str = ""):
        # The embedded teacher answers from its files: other ones are another teacher of the same name.
        embedded = hash_embedded("teacher") if teacher.base_url == EMBEDDED else ""
        self.teacher, self.stage, self.weights = teacher, stage, weights or embedded
        base_url = resolve_endpoint("teacher", teacher.base_url)
        self.endpoint = ChatEndpoint(teacher, base_url)
        check_prices(teacher, base_url)
        self.ledger = Ledger(run_dir, teacher.budget_usd)
        self.cache = ReplyCache(run_dir / "llm_cache.sqlite")
        self.slots = threading.BoundedSemaphore(teacher.concurrency)
        self.flights = Flights()
        # Of its own: stages seed the global one.
        self.random = random.Random()

    def send(self, request: dict[str, Any], sample: int, seed: int | None) -> Reply:
        """The reply to a request, from the cache or paid for; see Sender."""
        key = hash_request(name_place(self.teacher), self.weights, request, sample, seed)
        size = len(json.dumps(request, ensure_ascii=False).encode())
        with self.flights.join(key):
            known = self.cache.get(key)
            if known is not None:
                self.ledger.note_cached(self.stage, known.tokens_in, known.tokens_out)
            completion = known or self._insist(request, key, size)
        usd = price_completion(self.teacher, size, completion)
        reply = Reply(completion.text, completion.tokens_in, completion.tokens_out, usd, known is not None,
                      completion.finish_reason, completion.reasoning_tokens)
        completion.raise_unusable(reply)
        return reply

    def _insist(self, request: dict[str, Any], key: str, size: int) -> Completion:
        """Attempts until one brings a reply, as many as the parameters allow."""
        attempts = Retrying(
            stop=stop_after_attempt(self.teacher.max_retries + 1), wait=self._choose_wait, sleep=pause, reraise=True,
            retry=retry_if_exception(lambda error: isinstance(error, Failure) and error.again))
        try:
            return attempts(self._attempt, request, key, size)
        except Failure as failure:
            error = failure.error
        # Outside the handler, so that no traceback shows what lies behind it.
        raise error

    def _choose_wait(self, state: RetryCallState) -> float:
        """Seconds before the next attempt: what the endpoint asks for, else twice as long each time, less some."""
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, Failure) and failure.wait_s is not None:
            return failure.wait_s
        longest = min(FIRST_WAIT_S * 2.0 ** (state.attempt_number - 1), MOST_WAIT_S)
        return longest * (1 - self.random.random() / 4)

    def _attempt(self, request: dict[str, Any], key: str, size: int) -> Completion:
        """Reserve, send, keep, settle. Raises Failure, and BudgetError before anything is sent."""
        with self.slots:
            raise_if_stopped()
            number = self.ledger.reserve(self.stage, price_request(self.teacher, size), size // BYTES_PER_TOKEN)
            try:
                completion = self._ask(request, size)
                self.cache.put(key, completion)
                self.ledger.settle(number, completion.tokens_in, completion.tokens_out,
                                   price_completion(self.teacher, size, completion), completion.estimated,
                                   "paid" if is_priced(self.teacher) else "free")
            except BaseException as error:
                if isinstance(error, Failure) and not error.charged:
                    self.ledger.release(number)
                else:
                    self.ledger.presume(number)
                raise
            self.endpoint.spoke = True
            return completion

    def _ask(self, request: dict[str, Any], size: int) -> Completion:
        answer = self.endpoint.post(request)
        try:
            return read_completion(answer, size, self.teacher.max_output_tokens)
        except (NotACompletion, RecursionError):
            failure = self.endpoint.refuse(answer)
        raise failure

"""Lets an evaluation call a submission's Python code that runs in another sandbox. Standard library only.

The same file lies in both sandboxes. Started as a program beside the submission it answers requests from one pipe on
another; imported by a module that stands for the submission's, it sends them. Requests are marshal, for the evaluation
is trusted here; replies are JSON of plain data, for the submission is not. An argument is a copy: a submission that
changes it changes nothing of the evaluation's. What is not plain data stays with the submission and is named by number.
"""

import builtins
import os
import sys

REQUESTS, REPLIES = ".synthkit-requests", ".synthkit-replies"
MAX_REPLY_BYTES = 64 << 20
ATOMS = frozenset([type(None), bool, int, float, complex, str, bytes])
BUILTINS = frozenset(dir(builtins))
SEQUENCES = frozenset([list, tuple, set, frozenset])
HERE = os.path.dirname(os.path.abspath(__file__))

if __name__ == "__main__":
    # Before anything of the submission's can be imported: its end of the pipes is open, whatever it does then.
    ends = [os.open(os.path.join(HERE, REQUESTS), os.O_RDONLY), os.open(os.path.join(HERE, REPLIES), os.O_WRONLY)]

import importlib  # noqa: E402
import json  # noqa: E402
import marshal  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402


class SubmissionError(Exception):
    """What the submission's code raised, or that it does not answer."""


class Remote:
    """An object of the submission's, reached by its number."""

    def __init__(self, link: "Link", number: int):
        self._link, self._number = link, number

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._link.ask("get", self._number, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._link.ask("call", self._number, args, kwargs)


class Link:
    """The evaluation's end: one request, one reply."""

    def __init__(self) -> None:
        # One of the two processes always waits for the other. On one processor the change costs 4 microseconds,
        # on two of an idle virtual machine 70.
        cpus = sorted(os.sched_getaffinity(0))
        self.cpu = cpus[os.urandom(1)[0] % len(cpus)]
        os.sched_setaffinity(0, {self.cpu})
        self.requests = os.open(os.path.join(HERE, REQUESTS), os.O_WRONLY)
        self.replies = open(os.path.join(HERE, REPLIES), "rb")

    def ask(self, *request: Any) -> Any:
        """Send one request and wait for its reply. Raises SubmissionError when there is none, or it is an error."""
        plain = is_plain(request)
        data = marshal.dumps((plain, request if plain else simplify(request)))
        try:
            write_all(self.requests, len(data).to_bytes(8, "big") + data)
        except OSError as error:
            raise SubmissionError("the submission's process has ended") from error
        reply = self.replies.readline(MAX_REPLY_BYTES)
        if not reply.endswith(b"\n"):
            raise SubmissionError("the submission's process has ended, or says too much")
        return self.read(reply)

    def read(self, reply: bytes) -> Any:
        """The value of a reply. Raises SubmissionError for an error of the submission's, or what is no reply."""
        try:
            kind, value = json.loads(reply)
            if kind == "error":
                raise SubmissionError(str(value)[:500])
            return Remote(self, int(value)) if kind == "object" else unpack(value)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise SubmissionError(f"the submission answers with something else than data: {error}") from error


def reach(module: str, taken: frozenset[str] = frozenset()) -> Callable[[str], Any]:
    """`__getattr__` of a module that stands for the submission's module of this name.

    A star import gets none of the names in `taken`, nor a builtin: they would come to stand for the evaluation's own.
    """
    link = get_link()
    number = link.ask("import", link.cpu, module)._number

    def get(name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        value = link.ask("get", number, name)
        return [str(one) for one in value if one not in taken | BUILTINS] if name == "__all__" else value

    return get


links: list[Link] = []


def get_link() -> Link:
    """The evaluation's one link to the submission, made at the first call."""
    # The evaluation may import several modules of the submission's; they live in one process, as they would here.
    if not links:
        links.append(Link())
    return links[0]


def serve(requests: int, replies: int) -> None:
    """The submission's end: answer until the evaluation has closed its own."""
    objects: list[Any] = []
    source = open(requests, "rb")
    while header := source.read(8):
        plain, request = marshal.loads(source.read(int.from_bytes(header, "big")))
        request = request if plain else restore(objects, request)
        write_all(replies, json.dumps(answer(objects, request)).encode() + b"\n")


def answer(objects: list[Any], request: tuple[Any, ...]) -> list[Any]:
    """The reply to a request: data, the number of a new object, or the error that came of it."""
    kind, target, *rest = request
    try:
        value: Any
        if kind == "import":
            os.sched_setaffinity(0, {target})
            value = importlib.import_module(rest[0])
        elif kind == "get":
            value = list_public(objects[target]) if rest[0] == "__all__" else getattr(objects[target], rest[0])
        else:
            value = objects[target](*rest[0], **rest[1])
        return pack_value(objects, value)
    except Exception as error:  # whatever it is, it is the submission's
        return ["error", f"{type(error).__name__}: {error}"]


def pack_value(objects: list[Any], value: Any) -> list[Any]:
    """A value as data, or, where it is none, kept in `objects` and named by its place there."""
    try:
        return ["data", pack(value)]
    except TypeError:
        objects.append(value)
        return ["object", len(objects) - 1]


def list_public(module: Any) -> list[str]:
    """The names that a star import takes from a module."""
    return getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])


def pack(value: Any) -> Any:
    """Plain data as JSON with its types: lists and dictionaries stand in a one-key object that names them."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return {type(value).__name__: [pack(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[pack(key), pack(item)] for key, item in value.items()]}
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return {"array": [pack(value.tolist()), str(value.dtype)]}
    raise TypeError(f"{type(value).__name__} is not plain data")


def unpack(value: Any) -> Any:
    """What `pack` was given; arrays become numpy's. Anything of another form becomes None or raises."""
    if not isinstance(value, dict):
        return value
    (kind, content), = value.items()
    if kind == "dict":
        return {unpack(key): unpack(item) for key, item in content}
    if kind == "array":
        return make_array(unpack(content[0]), str(content[1]))
    kinds = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return kinds[kind](unpack(item) for item in content) if kind in kinds else None


def is_plain(value: Any) -> bool:
    """Whether marshal writes a value as what it is. It writes an array, without a word, as its bytes."""
    kind = type(value)
    if kind in ATOMS:
        return True
    if kind is dict:
        return all(map(is_plain, value.keys())) and all(map(is_plain, value.values()))
    return kind in SEQUENCES and all(map(is_plain, value))


def simplify(value: Any) -> Any:
    """A value for marshal: arrays with their type, objects of the submission's by number."""
    if isinstance(value, Remote):
        return ("\0object", value._number)
    if type(value) in SEQUENCES:
        return type(value)(map(simplify, value))
    if isinstance(value, dict):
        return {simplify(key): simplify(item) for key, item in value.items()}
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return ("\0array", value.tolist(), str(value.dtype))
    if type(value) in ATOMS:
        return value
    raise TypeError(f"a {type(value).__name__} cannot be given to code in another process")


def restore(objects: list[Any], value: Any) -> Any:
    """What `simplify` was given."""
    if type(value) is tuple and value and value[0] == "\0array":
        return make_array(value[1], value[2])
    if type(value) is tuple and value and value[0] == "\0object":
        return objects[value[1]]
    if type(value) in SEQUENCES:
        return type(value)(restore(objects, item) for item in value)
    if type(value) is dict:
        return {restore(objects, key): restore(objects, item) for key, item in value.items()}
    return value


def make_array(values: Any, kind: str) -> Any:
    """A numpy array or scalar from plain values and the name of its type."""
    import numpy

    array = numpy.array(values, dtype=kind)
    return array if array.ndim else array[()]


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes to a file descriptor, in as many writes as it takes."""
    while data:
        data = data[os.write(fd, data):]


if __name__ == "__main__":
    sys.modules.setdefault("submission_proxy", sys.modules["__main__"])
    serve(*ends)

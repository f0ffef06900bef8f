"""A Python run in a forked interpreter, as like to one in a new interpreter as a program can see.

Runs in the child that zygote.py forks into a sandbox. Known differences: modules that the warm interpreter has loaded
are in sys.modules already, and objects that outlive the program are not finalised.
"""

import atexit
import builtins
import contextlib
import gc
import importlib.machinery
import io
import os
import runpy
import signal
import sys
import threading
import types
from collections.abc import Callable


def run(executable: str, args: list[str]) -> int:
    """Run -c, -m, a file or stdin as __main__; returns the exit code, negative for a signal to die by."""
    open_streams()
    reseed()
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    sys.executable = executable
    sys.orig_argv = [executable, *args]
    code = attempt(lambda: execute(args, main))
    code = attempt(threading._shutdown) or code  # type: ignore[attr-defined]  # private, as the next two
    attempt(atexit._run_exitfuncs)
    release(main)
    return code


def open_streams() -> None:
    """New text streams on 0, 1 and 2, encoded as the ones this interpreter was started with."""
    for fd, name, mode in ((0, "stdin", "rb"), (1, "stdout", "wb"), (2, "stderr", "wb")):
        old = getattr(sys, f"__{name}__")
        raw = open(fd, mode, closefd=False)
        raw.raw.name = f"<{name}>"  # type: ignore[attr-defined]  # the mode makes it a buffer on a file
        lines = name == "stderr" or os.isatty(fd)
        stream = io.TextIOWrapper(raw, encoding=old.encoding, errors=old.errors, line_buffering=lines)
        stream.mode = mode[0]  # type: ignore[misc]  # the interpreter sets it on its own streams too
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def reseed() -> None:
    """What draws its seed at import draws it anew: two runs must not share random numbers that nobody fixed."""
    for name in ("random", "numpy.random"):
        if name in sys.modules:
            sys.modules[name].seed()


def execute(args: list[str], main: types.ModuleType) -> None:
    """Set argv and path as the interpreter does for this kind of call, and run the code in `main`."""
    kind = args[0] if args else "-"
    if kind == "-m":
        sys.argv, sys.path[:0] = ["-m", *args[2:]], [os.getcwd()]
        runpy._run_module_as_main(args[1])  # type: ignore[attr-defined]
        return
    if kind == "-c":
        sys.argv, sys.path[:0] = ["-c", *args[2:]], [""]
        source, name = args[1].encode("utf-8", "surrogateescape"), "<string>"
    elif kind == "-":
        sys.argv, sys.path[:0] = args or [""], [""]
        source, name = sys.stdin.buffer.read(), "<stdin>"
    else:
        name = os.path.join(os.getcwd(), kind)
        sys.argv, sys.path[:0] = args, [os.path.dirname(os.path.realpath(name))]
        with open(name, "rb") as file:
            source = file.read()
        main.__dict__.update(__file__=name, __cached__=None)
    loader = importlib.machinery.BuiltinImporter
    main.__dict__.update(__loader__=importlib.machinery.SourceFileLoader("__main__", name)
                         if "__file__" in main.__dict__ else loader, __spec__=None)
    code = compile(source, name, "exec", dont_inherit=True)
    try:
        exec(code, main.__dict__)
    finally:
        # As the interpreter does for a file, so that an error comes after what was printed before it.
        if kind != "-c":
            flush_streams()


def attempt(call: Callable[[], object]) -> int:
    """Exit code of a call; what it raises is reported as the interpreter does, without the frames of this file."""
    try:
        call()
    except SystemExit as end:
        return exit_code(end.code)
    except BaseException as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_globals is globals():
            trace = trace.tb_next
        try:
            sys.excepthook(type(error), error.with_traceback(trace), trace)
        except SystemExit as end:
            return exit_code(end.code)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def exit_code(value: object) -> int:
    """The exit code for a SystemExit's value; what is no number is printed to stderr and gives 1."""
    if value is None or isinstance(value, int):
        return int(value or 0) & 255
    with contextlib.suppress(Exception):
        print(value, file=sys.stderr)
    return 1


def release(main: types.ModuleType) -> None:
    """What finalisation does that a program can see: objects end, files are written out. The rest would only cost."""
    main.__dict__.clear()
    gc.collect()
    streams = [stream for stream in gc.get_objects() if issubclass(type(stream), io.IOBase)]
    # Text before the buffers below it; the standard streams keep their descriptors.
    for stream in sorted(streams, key=lambda stream: not issubclass(type(stream), io.TextIOBase)):
        with contextlib.suppress(Exception):
            stream.flush()
    flush_streams()


def flush_streams() -> None:
    """Write out stderr and stdout; what fails is left."""
    for stream in (sys.stderr, sys.stdout):
        with contextlib.suppress(Exception):
            stream.flush()

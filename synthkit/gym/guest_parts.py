"""What a session's guest is made of: the names of its modules, and pyflakes as one file. The kit's side, not inside."""

import importlib.util
import io
import marshal
import zipfile
from functools import cache
from pathlib import Path

GUEST_MODULES = ("guest", "guest_editor", "guest_lint", "guest_limits", "guest_processes", "guest_shell", "guest_usage",
                 "guest_window")
PYFLAKES_MODULES = ("__init__", "checker", "messages")
# zipimport then takes the code as it is, and the source beside it where the magic number is another Python's (PEP 552).
UNCHECKED = (1).to_bytes(4, "little") + bytes(8)


@cache
def pack_pyflakes() -> bytes:
    """The parts of pyflakes that find names, as a zip: code for this Python, source for any other."""
    package = Path(importlib.util.find_spec("pyflakes").origin).parent
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in PYFLAKES_MODULES:
            source = (package / f"{name}.py").read_bytes()
            code = marshal.dumps(compile(source, f"pyflakes/{name}.py", "exec"))
            archive.writestr(f"pyflakes/{name}.pyc", importlib.util.MAGIC_NUMBER + UNCHECKED + code)
            archive.writestr(f"pyflakes/{name}.py", source)
    return packed.getvalue()

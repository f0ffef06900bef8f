"""Endpoints by name: the embedded services start once, outlive an interrupt, and come back when they died."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from synthkit.core import endpoints
from synthkit.core.endpoints import resolve_endpoint
from synthkit.core.errors import EndpointError


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(endpoints, "_embedded", None)
    yield
    if endpoints._embedded:
        endpoints.stop_embedded(endpoints._embedded.process)


def test_a_url_is_taken_as_it_is() -> None:
    assert resolve_endpoint("teacher", "https://teacher.invalid/v1/") == "https://teacher.invalid/v1"


def test_embedded_services_start_once_apart_from_interrupts_and_again_when_they_died(fresh: None) -> None:
    teacher, hub = resolve_endpoint("teacher", "embedded"), resolve_endpoint("hub", "embedded")
    assert httpx.get(f"{hub}/api/datasets?limit=1", timeout=300).status_code == 200
    assert endpoints._embedded is not None
    process = endpoints._embedded.process
    assert os.getpgid(process.pid) != os.getpgid(0), "Ctrl-C in a notebook reaches its whole process group"
    assert resolve_endpoint("teacher", "embedded") == teacher
    process.kill()
    process.wait()
    assert httpx.get(f"{resolve_endpoint('teacher', 'embedded')}/models", timeout=300).status_code == 200


def test_services_that_cannot_start_say_why(fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SYNTHKIT_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(EndpointError, match=r"did not start: .*(file|directory)(.|\n)*fix: "):
        resolve_endpoint("hub", "embedded")


def test_they_end_with_the_process_that_started_them() -> None:
    code = (
        "import os; from synthkit.core import endpoints\n"
        "endpoints.resolve_endpoint('hub', 'embedded')\n"
        "print(endpoints._embedded.process.pid, flush=True); os._exit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pidfd_gone = wait_for_end(int(done.stdout))
    assert pidfd_gone


def wait_for_end(pid: int) -> bool:
    import select

    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 10)[0])
    finally:
        os.close(handle)

"""`synthkit export tasks --to hub`, against a loopback server that speaks the Hub's protocol for writing."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from synthkit.export.selection import load_verified

TOKEN = "hf_" + "x" * 20


class WritableHub(BaseHTTPRequestHandler):
    """The four requests that publishing a folder makes; keeps what was committed."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        state = self.server.state  # type: ignore[attr-defined]
        state["paths"].append(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        if self.path == "/api/repos/create":
            state["created"] = json.loads(body)
            return self.answer(200, {"url": "/datasets/me/tasks", "name": "me/tasks", "id": "me/tasks"})
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            return self.answer(200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                                               for f in files], "commitOid": "0" * 40})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    state["files"][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                else:
                    state["commits"].append(line["value"]["summary"])
            return self.answer(200, {"commitUrl": "/datasets/me/tasks/commit/1", "commitOid": "1" * 40,
                                     "success": True, "hookOutput": ""})
        return self.answer(404, {"error": self.path})

    def do_GET(self) -> None:
        self.server.state["paths"].append(self.path)  # type: ignore[attr-defined]
        self.answer(200, {"id": "me/tasks", "sha": "0" * 40, "siblings": [], "_id": "1", "private": True,
                          "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []})

    def answer(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, Any]]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), WritableHub)
    server.state = {"paths": [], "files": {}, "commits": []}  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", server.state  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def publish(run: Path, endpoint: str, token: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "synthkit", "export", "tasks", "--run", str(run), "--to", "hub"]
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_TOKEN": token}
    return subprocess.run([*command, "--repo", "me/tasks", *options], env=environment, capture_output=True, text=True,
                          timeout=600)


def test_nothing_is_sent_before_it_was_shown(ci_run: Path, hub: tuple[str, dict[str, Any]]) -> None:
    told = publish(ci_run, hub[0], TOKEN).stdout
    assert "nothing was published" in told and "licences of the sources: " in told and not hub[1]["paths"]


def test_the_tasks_arrive_with_their_card(ci_run: Path, hub: tuple[str, dict[str, Any]]) -> None:
    done = publish(ci_run, hub[0], TOKEN, "--yes")
    state, tasks = hub[1], load_verified(ci_run)
    assert f"published: {hub[0]}/datasets/me/tasks" in done.stdout, done.stderr
    assert state["created"]["type"] == "dataset" and state["created"]["visibility"] == "private"
    assert state["commits"] == [f"{len(tasks)} tasks made by synthkit"]
    for task in tasks:
        assert state["files"][f"data/{task.id}/data/train.csv"] == task.all_files()["data/train.csv"].read_bytes()
    assert state["files"]["README.md"].startswith(b"---\n") and TOKEN.encode() not in b"".join(state["files"].values())


def test_a_refused_token_is_for_a_person(ci_run: Path, hub: tuple[str, dict[str, Any]]) -> None:
    refused = publish(ci_run, hub[0], "hf_wrong", "--yes")
    assert refused.returncode == 1 and "refused the token" in refused.stderr and "hf_wrong" not in refused.stderr
    missing = publish(ci_run, hub[0], "", "--yes")
    assert missing.returncode == 1 and "HF_TOKEN is not set" in missing.stderr and not hub[1]["commits"]

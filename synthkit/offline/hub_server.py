"""The embedded Hub: the part of the Hugging Face Hub's HTTP interface that its client uses for datasets.

It serves what `data` exported: search, dataset information, file trees, and files with ranges. A gated
entry is refused as the Hub does it, a private one is not found.
"""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from synthkit.offline.data import INDEX

API = "/api/datasets"
RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


class HubServer(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def __init__(self, folder: Path, port: int):
        super().__init__(("127.0.0.1", port), HubHandler)
        self.folder = folder
        self.index = {row["id"]: row for row in json.loads((folder / INDEX).read_text())}


class Refusal(Exception):
    """An answer that is an error: status and the code that the client turns into a typed exception."""

    def __init__(self, status: int, code: str):
        super().__init__(code)
        self.status, self.code = status, code


def open_hub(folder: Path, port: int = 0) -> HubServer:
    """A bound server on loopback (port 0: any free one); `serve_forever` starts it."""
    return HubServer(folder, port)


class HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HubServer

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, body: bool) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        try:
            if path == API:
                self.send_json(self.search(query))
            elif path.startswith(API + "/"):
                self.send_json(self.describe(path.removeprefix(API + "/").split("/")))
            elif path.startswith("/datasets/"):
                self.send_file(path.removeprefix("/datasets/").split("/"), body)
            else:
                raise Refusal(404, "EntryNotFound")
        except Refusal as refusal:
            self.send_refusal(refusal)

    def search(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        words = query.get("search", [""])[0].lower().replace("-", " ").replace("_", " ").split()
        limit = int(query.get("limit", ["100"])[0])
        hits = [
            row for row in self.server.index.values()
            if not row.get("private") and all(w in f"{row['id']} {row['title']}".lower() for w in words)
        ]
        return [summarise(row) for row in hits[:limit]]

    def find(self, owner: str, name: str) -> dict[str, Any]:
        row = self.server.index.get(f"{owner}/{name}")
        if row is None or row.get("private"):
            raise Refusal(404, "RepoNotFound")
        return row

    def describe(self, parts: list[str]) -> Any:
        """/owner/name, /owner/name/revision/rev, /owner/name/tree/rev[/folder]."""
        if len(parts) < 2:
            raise Refusal(404, "RepoNotFound")
        row = self.find(parts[0], parts[1])
        if len(parts) >= 4:
            check_revision(row, parts[3])
        if len(parts) >= 4 and parts[2] == "tree":
            return list_tree(row, "/".join(parts[4:]))
        return summarise(row) | {
            "siblings": [
                {"rfilename": name, "size": file["size"], "blobId": file["sha256"][:40]}
                for name, file in row["files"].items()
            ],
            "cardData": {"license": row["license"], "configs": default_config(row)},
        }

    def send_file(self, parts: list[str], body: bool) -> None:
        """/owner/name/resolve/rev/path, with a range when one is asked for."""
        if len(parts) < 5 or parts[2] != "resolve":
            raise Refusal(404, "EntryNotFound")
        row, name = self.find(parts[0], parts[1]), "/".join(parts[4:])
        check_revision(row, parts[3])
        if row.get("gated"):
            raise Refusal(403, "GatedRepo")
        path = self.server.folder / row["id"] / name
        if name not in row["files"] or not path.is_file():
            raise Refusal(404, "EntryNotFound")
        content = path.read_bytes()
        headers = {
            "ETag": f'"{row["files"][name]["sha256"]}"', "X-Repo-Commit": row["sha"], "Accept-Ranges": "bytes",
        }
        asked = RANGE.match(self.headers.get("Range", ""))
        if not asked:
            self.send(200, content, "application/octet-stream", headers, body)
            return
        start, end = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        self.send(206, content[start:end + 1], "application/octet-stream", headers, body)

    def send_json(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), "application/json", {}, self.command == "GET")

    def send_refusal(self, refusal: Refusal) -> None:
        body = json.dumps({"error": refusal.code}).encode()
        headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.code}
        self.send(refusal.status, body, "application/json", headers, self.command == "GET")

    def send(self, status: int, content: bytes, kind: str, headers: dict[str, str], body: bool) -> None:
        """Headers and body in one send: two cost a delayed acknowledgement of 40 ms."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self._headers_buffer.append(b"\r\n" + (content if body else b""))
        self.flush_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""


def check_revision(row: dict[str, Any], revision: str) -> None:
    if revision not in ("main", row["sha"]):
        raise Refusal(404, "RevisionNotFound")


def summarise(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "_id": row["sha"][:24], "id": row["id"], "author": row["id"].split("/")[0], "sha": row["sha"],
        "private": False, "gated": row.get("gated", False), "disabled": row.get("disabled", False),
        "downloads": row["rows"], "likes": 0, "tags": row["tags"], "lastModified": "2026-01-01T00:00:00.000Z",
    }


def default_config(row: dict[str, Any]) -> list[dict[str, Any]]:
    if not any(name.startswith("data/train-") for name in row["files"]):
        return []
    return [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}]


def list_tree(row: dict[str, Any], folder: str) -> list[dict[str, Any]]:
    """Files and folders directly below a folder."""
    prefix = f"{folder}/" if folder else ""
    below = {name: file for name, file in row["files"].items() if name.startswith(prefix)}
    entries = {}
    for name, file in below.items():
        head, _, rest = name.removeprefix(prefix).partition("/")
        kind = "directory" if rest else "file"
        size = 0 if rest else file["size"]
        entries[head] = {"type": kind, "path": prefix + head, "size": size, "oid": file["sha256"][:40]}
    return list(entries.values())

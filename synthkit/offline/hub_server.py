"""The embedded Hub: the part of the Hugging Face Hub's HTTP interface that its clients use for datasets.

It serves what `data` exported: search, dataset information, file trees, and files with ranges. Errors carry the
headers from which the clients make their typed exceptions.
"""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from synthkit.offline.data import read_index

API = "/api/datasets"
RANGE = re.compile(r"bytes=(\d+)-(\d*)$")
MAX_FOUND = 1000
MAX_BODY = 1 << 20
Row = dict[str, Any]


class HubServer(ThreadingHTTPServer):
    """A threading server whose queue takes a burst of clients."""

    request_queue_size = 256
    daemon_threads = True

    def __init__(self, folder: Path, port: int):
        super().__init__(("127.0.0.1", port), HubHandler)
        self.folder = folder
        self.index = read_index(folder)


class HubRefusal(Exception):
    """An HTTP answer that is an error: its status, and the code and message that clients read from its headers.

    The codes are the Hub's own, such as RepoNotFound, from which huggingface_hub makes its typed exceptions.
    """

    def __init__(self, status: int, code: str, message: str = ""):
        super().__init__(message or code)
        self.status, self.code = status, code


def open_hub(folder: Path, port: int = 0) -> HubServer:
    """A bound server on loopback (port 0: any free one); `serve_forever` starts it."""
    return HubServer(folder, port)


class HubHandler(BaseHTTPRequestHandler):
    """GET, HEAD, and the one POST that only reads; everything else is refused by the base class."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HubServer
    _headers_buffer: list[bytes]  # Of http.server, whose type stubs leave it out.

    def do_GET(self) -> None:
        """Answer by the path: a search, what is known of a dataset, or one of its files."""
        url = urlsplit(self.path)
        path, query = unquote(url.path), {name: values[-1] for name, values in parse_qs(url.query).items()}
        # Read whatever came with the request: what is left in the stream would be taken for the next one.
        length = self.headers.get("Content-Length", "0")
        body = self.rfile.read(min(int(length), MAX_BODY)) if length.isdigit() else b""
        form = parse_qs(body.decode("utf-8", "replace"))
        try:
            if path == API:
                self.send_json(self.search(query))
            elif path.startswith(f"{API}/"):
                self.send_json(self.describe(path.removeprefix(f"{API}/").split("/"), query, form))
            elif path.startswith("/datasets/"):
                self.send_file(path.removeprefix("/datasets/").split("/"))
            else:
                raise HubRefusal(404, "NotFound", f"there is no {path}")
        except HubRefusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": str(refusal)}
            self.send(refusal.status, json.dumps({"error": str(refusal)}).encode(), "application/json", headers)

    do_HEAD = do_POST = do_GET

    def search(self, query: dict[str, str]) -> list[Row]:
        """The public datasets that have every word of the search in their id, title or tags."""
        words = re.split(r"[\s_/-]+", query.get("search", "").lower().strip())
        limit = query.get("limit", "")
        found = [summarise(row) for row in self.server.index.values() if not row["private"] and has_words(row, words)]
        wanted = [row for row in found if query.get("filter", "") in ("", *row["tags"])]
        return wanted[:int(limit) if limit.isdigit() else MAX_FOUND]

    def find(self, owner: str, name: str) -> Row:
        """A dataset's row. Raises HubRefusal when there is none; a private one does not show that it is there."""
        row = self.server.index.get(f"{owner}/{name}")
        if row is None or row["private"]:
            raise HubRefusal(404, "RepoNotFound", "Repository not found")
        return row

    def describe(self, parts: list[str], query: dict[str, str], form: dict[str, list[str]]) -> Row | list[Row]:
        """What is known of a dataset; `parts` is the path owner/name and what follows it.

        That is nothing, revision/<rev>, tree/<rev>[/<folder>], paths-info/<rev> (its paths in `form`) or refs. Raises
        HubRefusal for any other path, and for what is not there.
        """
        row = self.find(*parts[:2]) if len(parts) > 1 else self.find("", parts[0])
        match parts[2:]:
            case []:
                return summarise(row) | describe_files(row)
            case ["revision", revision]:
                check_revision(row, revision)
                return summarise(row) | describe_files(row)
            case ["tree", revision, *folders]:
                check_revision(row, revision)
                return list_tree(row, "/".join(folders).strip("/"), query.get("recursive", "").lower() == "true")
            case ["paths-info", revision]:
                check_revision(row, revision)
                return [entry for entry in list_tree(row, "", True) if entry["path"] in form.get("paths", [])]
            case ["refs"]:
                return {"branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": row["sha"]}],
                        "tags": [], "converts": []}
        raise HubRefusal(404, "NotFound", "there is no such route")

    def send_file(self, parts: list[str]) -> None:
        """Send a file, or the range of it that is asked for; `parts` is the path owner/name/resolve/rev/path.

        Raises HubRefusal for a file that is not there or not open to everybody.
        """
        if len(parts) < 5 or parts[2] != "resolve":
            raise HubRefusal(404, "EntryNotFound", "Entry not found")
        row, name = self.find(*parts[:2]), "/".join(parts[4:])
        check_revision(row, parts[3])
        check_access(row)
        path = self.server.folder / row["id"] / name
        # Only what the index names is served: nothing else below the folder, and nothing outside of it.
        if name not in row["files"] or not path.is_file():
            raise HubRefusal(404, "EntryNotFound", "Entry not found")
        self.send_bytes(path.read_bytes(), {
            "ETag": f'"{row["files"][name]["sha256"]}"', "X-Repo-Commit": row["sha"], "Accept-Ranges": "bytes",
        })

    def send_bytes(self, content: bytes, headers: dict[str, str]) -> None:
        """Send content, or of it the range of bytes that the request names (206, or 416 for one beyond its end)."""
        asked = RANGE.match(self.headers.get("Range", ""))
        if not asked:
            self.send(200, content, "application/octet-stream", headers)
            return
        start, stop = int(asked[1]), min(int(asked[2] or len(content) - 1) + 1, len(content))
        if start >= stop:
            headers = {"Content-Range": f"bytes */{len(content)}"}
            self.send(416, b"", "application/octet-stream", headers)
            return
        headers = headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
        self.send(206, content[start:stop], "application/octet-stream", headers)

    def send_json(self, value: Row | list[Row]) -> None:
        """Send a value as JSON with status 200."""
        self.send(200, json.dumps(value).encode(), "application/json", {})

    def send(self, status: int, content: bytes, kind: str, headers: dict[str, str]) -> None:
        """Headers and body in one send: two cost a delayed acknowledgement of 40 ms. HEAD gets the headers."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self._headers_buffer.append(b"\r\n" + (b"" if self.command == "HEAD" else content))
        self.flush_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: stderr is for faults only."""


def has_words(row: Row, words: list[str]) -> bool:
    """Whether every word, in lower case, is part of the dataset's id, title or tags."""
    text = " ".join([row["id"], row["card_data"].get("pretty_name", ""), *row["tags"]]).lower().replace("_", " ")
    return all(word in text for word in words)


def check_revision(row: Row, revision: str) -> None:
    """Raises HubRefusal for a revision other than `main` and the one commit that there is."""
    if revision not in ("main", "refs/heads/main", row["sha"]):
        raise HubRefusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")


def check_access(row: Row) -> None:
    """Raises HubRefusal when the files of a dataset are gated or disabled."""
    if row["gated"]:
        raise HubRefusal(403, "GatedRepo", f"Access to dataset {row['id']} is restricted")
    if row["disabled"]:
        raise HubRefusal(403, "", "Access to this resource is disabled.")


def summarise(row: Row) -> Row:
    """What a search shows of a dataset. A count of downloads would be made up, so it is 0."""
    return {
        "_id": row["sha"][:24], "id": row["id"], "author": row["id"].split("/")[0], "sha": row["sha"],
        "private": False, "gated": row["gated"], "disabled": row["disabled"], "downloads": 0, "likes": 0,
        "tags": row["tags"], "lastModified": "2026-01-01T00:00:00.000Z",
    }


def describe_files(row: Row) -> Row:
    """What dataset information adds to a search's result: the files and the card's front matter."""
    files = [{"rfilename": name, "size": file["size"], "blobId": file["sha256"][:40]}
             for name, file in row["files"].items()]
    return {"siblings": files, "cardData": row["card_data"]}


def list_tree(row: Row, folder: str, recursive: bool) -> list[Row]:
    """Files and folders below a folder, directly or all the way down. Raises HubRefusal when it is not there."""
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, Row] = {}
    for name, file in row["files"].items():
        if not name.startswith(prefix):
            continue
        *folders, _ = name.removeprefix(prefix).split("/")
        for depth in range(1, (len(folders) if recursive else min(1, len(folders))) + 1):
            path = prefix + "/".join(folders[:depth])
            entries[path] = {"type": "directory", "path": path, "size": 0, "oid": row["sha"]}
        if recursive or not folders:
            entries[name] = {"type": "file", "path": name, "size": file["size"], "oid": file["sha256"][:40]}
    if folder and not entries:
        raise HubRefusal(404, "EntryNotFound", f"{folder} does not exist on main")
    return list(entries.values())

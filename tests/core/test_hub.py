"""The Hub client against a Hub on loopback: pinned commits, typed refusals, faults on the way, tidy caches."""

import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from synthkit.core.errors import EndpointError, HubError, RecordError, TransientEndpointError
from synthkit.core.hub import DatasetInfo, HubClient
from synthkit.core.params import HubParams
from synthkit.offline.hub_server import HubHandler, HubServer

NAME = "people/heights"
LICENCES = ("mit", "cc-by-4.0")


@dataclass
class Site:
    """A Hub with one dataset, whose row and faults (status by part of the path, used up one by one) a test may set."""

    server: HubServer
    seen: list[str] = field(default_factory=list)
    faults: dict[str, list[int]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def row(self) -> dict[str, Any]:
        return self.server.index[NAME]

    def put(self, path: str, content: bytes) -> None:
        target = self.server.folder / NAME / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self.row["files"][path] = {"size": len(content), "sha256": f"{abs(hash(content)):064x}"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("SYNTHKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    folder = tmp_path / "site"
    folder.mkdir()
    row = {"id": NAME, "sha": "a" * 40, "tags": ["license:mit"], "card_data": {"license": "mit"}, "files": {},
           "gated": False, "private": False, "disabled": False}
    (folder / "index.json").write_text(json.dumps({NAME: row}))
    one = Site(HubServer(folder, 0))

    class Handler(HubHandler):
        def do_GET(self) -> None:
            one.seen.append(f"{self.command} {self.path}")
            left = next((codes for part, codes in one.faults.items() if part in self.path and codes), None)
            if left:
                self.send(left.pop(0), b"{}", "application/json", {})
            else:
                super().do_GET()

        do_HEAD = do_POST = do_GET

    one.server.RequestHandlerClass = Handler
    one.put("README.md", b"---\nlicense: mit\n---\n# Heights\nOf people.\n")
    one.put("train.csv", b"age,height\n3,95\n9,133\n")
    threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield one
    one.server.shutdown()
    one.server.server_close()


def open_hub(site: Site) -> HubClient:
    return HubClient(HubParams(endpoint=site.url, timeout_s=300))


def verify(client: HubClient, name: str = NAME, unknown: str = "refuse", most: int = 1) -> DatasetInfo:
    return client.verify(name, LICENCES, unknown, most)


def test_a_dataset_is_verified_pinned_fetched_once_and_read(site: Site, tmp_path: Path) -> None:
    client = open_hub(site)
    info = verify(client)
    assert (info.revision, info.licence, info.splits) == ("a" * 40, "mit", {"train": ["train.csv"]})
    assert info.card == "# Heights\nOf people."
    assert not any("train.csv" in request for request in site.seen), "data fetched before the checks were done"
    client.fetch(info, tmp_path / "data")
    (file,) = client.fetch(info, tmp_path / "data").files
    content = (tmp_path / "data" / "people__heights" / ("a" * 12) / "train.csv").read_bytes()
    assert (file.path, file.sha256) == ("train.csv", hashlib.sha256(content).hexdigest())
    open_hub(site).fetch(info, tmp_path / "data")
    fetched = [request for request in site.seen if request.startswith("GET /datasets") and "train.csv" in request]
    assert len(fetched) == 1 and f"/resolve/{'a' * 40}/" in fetched[0]
    pd.testing.assert_frame_equal(client.load_frame(info)[0], pd.DataFrame({"age": [3, 9], "height": [95, 133]}))


def test_a_commit_that_is_gone_is_no_data(site: Site, tmp_path: Path) -> None:
    client = open_hub(site)
    info = verify(client)
    site.row["sha"] = "b" * 40
    with pytest.raises(HubError) as caught:
        client.fetch(info, tmp_path / "data")
    assert caught.value.reason == "no_data"
    assert verify(client).revision == "b" * 40


@pytest.mark.parametrize(("change", "reason"), [
    ({"gated": "auto"}, "gated"), ({"gated": "manual"}, "gated"), ({"disabled": True}, "disabled"),
    ({"tags": ["license:mit", "pii"]}, "personal_data"),
    ({"private": True}, "not_found"), ({"card_data": {"license": "cc-by-nc-4.0"}}, "licence"),
    ({"card_data": {}, "tags": []}, "licence"), ({"files": {"loader.py": {"size": 9, "sha256": "0"}}}, "needs_code"),
    ({"files": {"birds.wav": {"size": 9, "sha256": "0"}}}, "no_data"),
    ({"files": {"a.csv": {"size": 1_000_001, "sha256": "0"}}}, "too_large"),
])
def test_refusals_are_typed(site: Site, change: dict[str, Any], reason: str) -> None:
    site.row.update(change)
    with pytest.raises(HubError) as caught:
        verify(open_hub(site))
    assert caught.value.reason == reason


@pytest.mark.parametrize("name", ["people/absent", "heights", "a b/c", "a/b/c", "", "people/../heights", "x" * 300])
def test_names_that_nothing_has_are_not_found(site: Site, name: str) -> None:
    client = open_hub(site)
    with pytest.raises(HubError) as caught:
        verify(client, name)
    assert caught.value.reason == "not_found"
    assert not any(candidate.exact for candidate in client.find(name, ["heights"], 5))


def test_an_unknown_licence_may_be_accepted(site: Site) -> None:
    site.row.update(card_data={}, tags=[])
    assert verify(open_hub(site), unknown="accept").licence == "unknown"


def test_near_matches_come_once_and_empty_searches_bring_none(site: Site) -> None:
    client = open_hub(site)
    assert [(c.id, c.exact) for c in client.find("x/heights", ["people", "", "height"], 5)] == [(NAME, False)]
    assert client.find("x/nothing", ["", "zebra"], 5) == []
    assert [c.exact for c in client.find(NAME, [], 5)] == [True]


@pytest.mark.parametrize(("configs", "splits"), [
    ([{"config_name": "default", "data_files": [{"split": "train", "path": "d/*.csv"}]}],
     {"train": ["d/a.csv", "d/b.csv"]}),
    ([{"config_name": "x", "data_files": "d/a.csv"}], {"train": ["d/a.csv"]}),
    ([{"config_name": "x", "data_files": {"test": "d/b.csv", "train": ["d/a.csv"]}}],
     {"test": ["d/b.csv"], "train": ["d/a.csv"]}),
    ([{"config_name": "x", "data_files": [{"split": "train"}]}, "odd"], {"train": ["d/a.csv", "d/b.csv", "train.csv"]}),
    (None, {"train": ["d/a.csv", "d/b.csv", "train.csv"]}),
])
def test_splits_come_from_the_card_or_from_the_names(site: Site, configs: Any, splits: dict[str, list[str]]) -> None:
    for name in ("a", "b"):
        site.put(f"d/{name}.csv", b"x\n1\n")
    site.row["card_data"] = {"license": "mit", "configs": configs}
    assert verify(open_hub(site)).splits == splits


@pytest.mark.parametrize("content", [b"\x00\xff\xfe", b"a,b\n1,2,3\n4\n\"", b""])
def test_files_that_are_no_table_are_no_data(site: Site, tmp_path: Path, content: bytes) -> None:
    site.put("train.csv", content)
    client = open_hub(site)
    info = verify(client)
    client.fetch(info, tmp_path / "data")
    with pytest.raises(HubError) as caught:
        client.load_frame(info)
    assert caught.value.reason == "no_data"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again_and_then_named(site: Site, tmp_path: Path, status: int) -> None:
    for part in ("/api/datasets", "README.md", "train.csv"):
        site.faults[part] = [status, status]
    client = open_hub(site)
    info = verify(client)
    client.fetch(info, tmp_path / "a")
    site.faults = {part: [status] * 99 for part in site.faults}
    with pytest.raises(TransientEndpointError, match=f"the Hub at {site.url} answered {status}"):
        verify(client)
    with pytest.raises(TransientEndpointError, match=f"the Hub at {site.url} cannot be reached"):
        client.fetch(info, tmp_path / "b")


def test_the_waits_between_questions_grow_and_a_refusal_is_asked_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    client, asked = open_hub(site), []

    def ask(error: Exception) -> None:
        asked.append(error)
        raise error

    with pytest.raises(TransientEndpointError):
        client._call(NAME, lambda: ask(TimeoutError()))
    assert len(asked) == 4 and waits == [1.0, 4.0, 16.0]
    for error, kind in ((ConnectionRefusedError(), EndpointError), (KeyError("a fault of ours"), KeyError)):
        with pytest.raises(kind):
            client._call(NAME, lambda error=error: ask(error))
    assert len(asked) == 6 and len(waits) == 3


def test_a_refused_token_and_an_absent_hub_are_for_a_person(site: Site) -> None:
    site.faults["/api/datasets"] = [403] * 9
    with pytest.raises(EndpointError, match=r"refused the token(.|\n)*HF_TOKEN"):
        open_hub(site).find("x/y", ["z"], 3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        absent = HubClient(HubParams(endpoint=f"http://127.0.0.1:{free.getsockname()[1]}"))
        with pytest.raises(EndpointError, match=r"cannot be reached(.|\n)*fix: check hub\.endpoint"):
            verify(absent)


def test_a_full_disk_is_explained(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_hub(site)
    info = verify(client)

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(RecordError, match="the disk is full"):
        patch.setattr("huggingface_hub.file_download.http_get", refuse)
        client.fetch(info, tmp_path / "data")
    client.fetch(info, tmp_path / "data")
    monkeypatch.setattr("datasets.builder.DatasetBuilder._download_and_prepare", refuse)
    with pytest.raises(RecordError, match="the disk is full"):
        client.load_frame(info)


def test_all_that_is_kept_lies_in_the_runs_folder_or_our_cache_and_no_bar_is_shown(site: Site, tmp_path: Path) -> None:
    site.put("test.csv", b"age,height\n4,101\n")
    code = (
        "import sys; from pathlib import Path\n"
        "from synthkit.core.hub import HubClient; from synthkit.core.params import HubParams\n"
        "client = HubClient(HubParams(endpoint=sys.argv[1]))\n"
        f"info = client.verify({NAME!r}, ['mit'], 'refuse', 1)\n"
        "client.fetch(info, Path('run'))\n"
        "print(len(client.load_frame(info)[0]))\n"
    )
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_"))}
    env = kept | {"HOME": str(tmp_path / "home"), "SYNTHKIT_CACHE": str(tmp_path / "work" / "cache")}
    done = subprocess.run([sys.executable, "-c", code, site.url], env=env, cwd=tmp_path / "work", capture_output=True,
                          text=True, check=True)
    assert (done.stdout, done.stderr) == ("3\n", "")
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"run", "cache"}

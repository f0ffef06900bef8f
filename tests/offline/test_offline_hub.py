"""The embedded Hub: real tables with cards and fixed commits, read by huggingface_hub, datasets and our client."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, errors

from synthkit.core.errors import HubError
from synthkit.core.hub import DatasetInfo, HubClient
from synthkit.core.params import DatasetsParams, HubParams
from synthkit.offline import data
from synthkit.offline.catalogue import read_catalogue, read_stand_ins
from synthkit.offline.hub_server import HubServer, open_hub
from synthkit.offline.tables import make_table

DEFAULTS = DatasetsParams()
TOO_SMALL = {"statsmodels/statecrime", "statsmodels/danish_data", "statsmodels/longley", "statsmodels/stackloss"}
STAND_INS = {
    "synthkit-examples/gated-clinic-visits": "gated", "synthkit-examples/private-survey": "not_found",
    "synthkit-examples/disabled-prices": "disabled", "synthkit-examples/script-only-traffic": "needs_code",
    "synthkit-examples/too-large-clicks": "too_large", "synthkit-examples/non-commercial-loyalty": "licence",
    "synthkit-examples/audio-only-birds": "no_data", "synthkit-examples/absent": "not_found",
}


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    hub = open_hub(data.open_data())
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield hub
    hub.shutdown()
    hub.server_close()


@pytest.fixture(scope="module")
def url(server: HubServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def client(url: str) -> HubClient:
    return HubClient(HubParams(endpoint=url))


def verify(client: HubClient, name: str) -> DatasetInfo:
    return client.verify(name, DEFAULTS.licences, DEFAULTS.unknown_licence, DEFAULTS.max_download_mb)


def test_every_table_is_as_its_entry_says() -> None:
    for entry in read_catalogue().values():
        frame = make_table(entry)
        unlisted = set(frame.columns) - set(entry.columns)
        assert set(entry.columns) <= set(frame.columns), entry.id
        assert not unlisted or entry.more_columns, (entry.id, unlisted)
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in frame.columns), entry.id
        assert not frame.isna().any().any(), entry.id


def test_training_datasets_pass_the_default_checks_and_the_others_do_not(client: HubClient) -> None:
    for entry in read_catalogue().values():
        rows = len(data.load_table(entry.id))
        try:
            info = verify(client, entry.id)
            assert info.licence == entry.licence and re.fullmatch("[0-9a-f]{40}", info.revision)
            assert entry.held_out or (rows < DEFAULTS.min_rows) == (entry.id in TOO_SMALL), entry.id
        except HubError as error:
            assert error.reason == "licence" and entry.licence in (None, "other", "cc-by-2.0"), entry.id
    usable = [e for e in read_catalogue().values() if not e.held_out and e.licence in DEFAULTS.licences]
    assert len(usable) - len(TOO_SMALL) >= 14


@pytest.mark.parametrize("name", STAND_INS)
def test_entries_without_data_are_refused(client: HubClient, name: str) -> None:
    with pytest.raises(HubError) as caught:
        verify(client, name)
    assert caught.value.reason == STAND_INS[name]


def test_stand_ins_are_all_tried() -> None:
    assert {entry.id for entry in read_stand_ins()} < set(STAND_INS)


def test_named_and_near_datasets_are_found(client: HubClient) -> None:
    assert [c.exact for c in client.find("statsmodels/anes96", ["election"], 5)] == [True]
    near = client.find("someone/handwriting", ["digits"], 5)
    assert [(c.id, c.exact) for c in near] == [("scikit-learn/digits", False)]
    assert client.find("someone/nothing-like-it", ["zebra crossing"], 5) == []
    assert "synthkit-examples/private-survey" not in {c.id for c in client.find("x/survey", ["survey"], 50)}


def test_fetched_splits_hold_the_source_rows(client: HubClient, tmp_path: Path) -> None:
    info = verify(client, "statsmodels/randhie")
    client.fetch(info, tmp_path)
    frame, rows = client.load_frame(info)
    assert rows == {"train": 16000, "test": 4190} and len(frame) == 20190
    assert info.card.startswith("# RAND Health Insurance Experiment") and "`mdvis`" in info.card


def test_client_reads_trees_files_and_typed_errors(url: str, tmp_path: Path) -> None:
    api = HfApi(endpoint=url, token=False)
    files = ["README.md", "data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]
    assert api.list_repo_files("statsmodels/randhie", repo_type="dataset") == files
    found = api.get_paths_info("statsmodels/randhie", ["data", files[1]], repo_type="dataset")
    assert [entry.path for entry in found] == ["data", files[1]]
    folder = api.snapshot_download("statsmodels/nile", repo_type="dataset", local_dir=tmp_path)
    assert Path(folder, "README.md").read_text(encoding="utf-8").startswith("---\nlicense: public-domain")
    with pytest.raises(errors.RevisionNotFoundError):
        api.dataset_info("statsmodels/nile", revision="0" * 40)
    with pytest.raises(errors.RepositoryNotFoundError):
        api.dataset_info("synthkit-examples/absent")
    with pytest.raises(errors.GatedRepoError):
        api.hf_hub_download("synthkit-examples/gated-clinic-visits", "data/train.csv", repo_type="dataset")
    with pytest.raises(errors.RemoteEntryNotFoundError):
        api.hf_hub_download("statsmodels/nile", "absent.csv", repo_type="dataset")


def test_ranges_heads_and_paths_outside_of_a_dataset(url: str) -> None:
    file = f"{url}/datasets/statsmodels/nile/resolve/main/README.md"
    whole = httpx.get(file, timeout=300)
    part = httpx.get(file, timeout=300, headers={"Range": "bytes=4-10"})
    assert (part.status_code, part.content) == (206, whole.content[4:11])
    assert part.headers["content-range"] == f"bytes 4-10/{len(whole.content)}"
    assert httpx.get(file, timeout=300, headers={"Range": "bytes=999999-"}).status_code == 416
    head = httpx.head(file, timeout=300)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(whole.content)))
    assert head.headers["x-repo-commit"] == httpx.get(f"{url}/api/datasets/statsmodels/nile", timeout=300).json()["sha"]
    for path in ("datasets/statsmodels/nile/resolve/main/%2e%2e/%2e%2e/index.json", "api/datasets/nile", "api", "x"):
        assert httpx.get(f"{url}/{path}", timeout=300).status_code == 404


def test_a_burst_of_clients_is_answered(url: str) -> None:
    with httpx.Client(base_url=url, timeout=300) as client, ThreadPoolExecutor(64) as pool:
        statuses = list(pool.map(lambda _: client.get("/api/datasets?limit=3").status_code, range(200)))
    assert statuses == [200] * 200


def test_datasets_library_loads_and_streams(url: str, tmp_path: Path) -> None:
    code = (
        "import datasets\n"
        "whole = datasets.load_dataset('scikit-learn/iris', split='train')\n"
        "first = next(iter(datasets.load_dataset('scikit-learn/iris', split='train', streaming=True)))\n"
        "print(len(whole), first == whole[0], first['species'])\n"
    )
    env = os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["150", "True", "setosa"]


def test_an_export_is_the_same_again_and_its_commit_follows_its_content(tmp_path: Path) -> None:
    entry = read_catalogue()["statsmodels/nile"]
    again = data.export_entry(entry, tmp_path / "a")
    other = data.export_entry(entry.model_copy(update={"about": "Changed."}), tmp_path / "b")
    assert again == data.read_index(data.open_data())[entry.id]
    assert other["sha"] != again["sha"]


def test_exports_at_once_give_one_whole_folder(tmp_path: Path) -> None:
    together = threading.Barrier(4, timeout=300)

    def export(folder: Path) -> None:
        (folder / "part").write_text("whole")
        together.wait()

    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: data.export_once(tmp_path / "out", export), range(4)))
    assert [path.name for path in tmp_path.iterdir()] == ["out"] == [path.name for path in folders]
    with pytest.raises(ZeroDivisionError):
        data.export_once(tmp_path / "failed", lambda folder: 1 / 0)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_command_serves_both_until_its_input_closes() -> None:
    command = [sys.executable, "-m", "synthkit.offline"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        urls = json.loads(process.stdout.readline())
        assert httpx.get(f"{urls['teacher']}/models", timeout=300).json()["data"][0]["id"] == "scripted-teacher"
        assert httpx.get(f"{urls['hub']}/api/datasets/scikit-learn/iris", timeout=300).status_code == 200
        process.stdin.close()
        assert process.wait(300) == 0


def test_a_cache_that_cannot_be_written_is_named_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = os.environ | {"SYNTHKIT_CACHE": str(tmp_path / "file" / "cache")}
    command = [sys.executable, "-m", "synthkit.offline"]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert str(tmp_path) in done.stderr and "set SYNTHKIT_CACHE" in done.stderr and done.stderr.count("\n") == 1

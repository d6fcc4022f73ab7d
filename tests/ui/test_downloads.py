"""The zip of a result over HTTP, from the studio's own application."""

import io
import random
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from studio.config.merge import MergeConfig
from studio.files import write_json
from studio.runs.run import Run
from studio.runs.store import Store
from studio.settings import Settings
from studio.ui import app, downloads


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("studio")
    return Settings(data_dir=root / "data", saves_dir=root / "saves", auth=("me", "secret"))


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app.application(settings), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def run(settings: Settings) -> Run:
    made = Store(settings.saves_dir).create(MergeConfig(adapter_name_or_path="a", run_name="小芽"))
    (made.path / "model").mkdir()
    (made.path / "model" / "model.safetensors").write_bytes(random.Random(0).randbytes(3_000_000))
    (made.path / "model" / "config.json").write_text("{}")
    write_json(made.path / "result.json", {"output": "model"})
    return made


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        assert client.post("login", data={"username": "me", "password": "secret"}).status_code == 200
        yield client


def test_the_whole_result_comes_as_one_zip(browser, run):
    answer = browser.get(downloads.url(run))
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert answer.headers["Content-Disposition"].endswith("%E5%B0%8F%E8%8A%BD-model.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
        assert opened.testzip() is None
        inner = f"{run.id}-model/model.safetensors"
        assert opened.read(inner) == (run.path / "model/model.safetensors").read_bytes()


def test_a_download_that_broke_off_goes_on(browser, run):
    url = downloads.url(run)
    whole = browser.get(url)
    start = len(whole.content) // 3
    headers = {"Range": f"bytes={start}-", "If-Range": whole.headers["ETag"]}
    rest = browser.get(url, headers=headers)
    assert (rest.status_code, rest.content) == (206, whole.content[start:])
    assert rest.headers["Content-Range"] == f"bytes {start}-{len(whole.content) - 1}/{len(whole.content)}"
    assert browser.get(url, headers={"Range": "bytes=-100"}).content == whole.content[-100:]
    assert browser.get(url, headers={"Range": "bytes=5-9"}).content == whole.content[5:10]
    assert browser.get(url, headers={**headers, "If-Range": '"another"'}).content == whole.content
    assert browser.get(url, headers={"Range": f"bytes={len(whole.content)}-"}).status_code == 416
    asked = browser.head(url)
    assert (asked.headers["Content-Length"], asked.content) == (str(len(whole.content)), b"")


def test_nobody_gets_it_without_a_login(address, run):
    answer = httpx.get(address + downloads.url(run))
    assert (answer.status_code, answer.text) == (401, "Log in first.")
    stale = {f"access-token-unsecure-{name}": "guess" for name in ("", "x")}
    assert httpx.get(address + downloads.url(run), cookies=stale).status_code == 401


@pytest.mark.parametrize("output", ["../../data", "/etc", "missing", ".", "", "..", "link"])
def test_only_a_result_inside_its_run_is_given(browser, settings, output, tmp_path):
    (settings.data_dir).mkdir(exist_ok=True)
    made = Store(settings.saves_dir).create(MergeConfig(adapter_name_or_path="a"))
    (made.path / "link").symlink_to(tmp_path)
    write_json(made.path / "result.json", {"output": output})
    assert browser.get(downloads.url(made)).status_code == 404


@pytest.mark.parametrize("name", ["nothing", "..%2f..%2fetc", ".trash", "%00"])
def test_what_is_no_run_is_not_found(browser, name):
    assert browser.get(f"seedbed/zip/{name}").status_code == 404


def test_a_run_is_not_given_by_the_beginning_of_its_id(browser, run):
    assert browser.get(f"seedbed/zip/{run.id[:-1]}").status_code == 404


def test_a_client_that_goes_away_ends_the_reading(browser, run, settings):
    large = Store(settings.saves_dir).create(MergeConfig(adapter_name_or_path="a"))
    (large.path / "model").mkdir()
    weights = large.path / "model" / "model.safetensors"
    with open(weights, "wb") as file:
        file.truncate(200 << 20)
    write_json(large.path / "result.json", {"output": "model"})
    with browser.stream("GET", downloads.url(large)) as answer:
        pieces = answer.iter_bytes(2_000_000)  # which ends the request when it is forgotten
        assert len(next(pieces)) == 2_000_000
        assert _is_open(weights)
    deadline = time.monotonic() + 5
    while _is_open(weights):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_a_login_in_the_settings_everybody_on_this_computer_may(run, settings):
    from starlette.testclient import TestClient

    alone = Settings(data_dir=settings.data_dir, saves_dir=settings.saves_dir)
    with TestClient(app.application(alone)) as client:
        assert client.get("/" + downloads.url(run)).status_code == 200


def _is_open(path: Path) -> bool:
    return any(each.resolve() == path for each in Path("/proc/self/fd").iterdir())

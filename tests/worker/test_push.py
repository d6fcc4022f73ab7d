"""Uploads by the hub's own client to a small hub on this machine: real HTTP, real processes."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from studio.cli import front
from studio.config.push import PushConfig
from studio.errors import HubError
from studio.exports import report
from studio.exports.push import Item, parcel
from studio.files import write_json
from studio.runs import launchers
from studio.runs.run import Run, State
from studio.runs.store import Store
from studio.worker.hub import Hub

FAKE = Path(__file__).parents[1] / "fakes" / "hub.py"
SECRET = "open-sesame"
LARGE = {f"model-0000{number}-of-00003.safetensors": 150_000 + number for number in (1, 2, 3)}


@dataclass(frozen=True)
class FakeHub:
    """The hub's address, its folder and what it was asked."""

    address: str
    root: Path

    @property
    def asked(self) -> list[str]:
        return (self.root / "log.txt").read_text().splitlines()

    def since(self, mark: int) -> list[str]:
        return self.asked[mark:]

    def contents(self, name: str) -> dict[str, bytes]:
        folder = self.root / "models" / name
        files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".public")
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    def is_public(self, name: str) -> bool:
        return (self.root / "models" / name / ".public").exists()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    root = tmp_path_factory.mktemp("hub")
    with open(root / "log.txt", "w") as log:
        process = subprocess.Popen([sys.executable, str(FAKE), str(root)], stdout=log)
    while not (line := (root / "log.txt").read_text()).endswith("\n"):
        time.sleep(0.01)
    yield FakeHub(f"http://127.0.0.1:{int(line)}", root)
    process.kill()
    process.wait()


@pytest.fixture
def hub(served: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", served.address)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEEDBED_SAVES", str(tmp_path / "saves"))
    return served


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "saves")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks as a model does: weights in three files, small files beside them."""
    folder = tmp_path / "Mein Modell 小芽"
    folder.mkdir()
    source = random.Random(str(tmp_path))
    for name, size in LARGE.items():
        (folder / name).write_bytes(source.randbytes(size))
    (folder / "config.json").write_text(json.dumps({"_name_or_path": "/home/ada/secret place/llama", "hidden": 4}))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def sent(folder: Path, name: str, private: bool = True, tell: Any = lambda *told: None) -> list[int]:
    """Upload `folder` in this process; the bytes that went over the line for each file."""
    hub = Hub()
    hub.open(name, private)
    uploaded, _ = hub.upload(name, parcel(Store(folder.parent / "saves"), str(folder)).items, "Upload", tell)
    assert hub.differing(name, uploaded) == []
    return [one.bytes for one in uploaded]


def ended(run: Run, within_s: float = 40) -> Run:
    until(lambda: not run.is_active, within_s)
    return run


def until(condition: Callable[[], Any], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def test_a_folder_goes_up_private_and_whole(hub, model):
    told: list[tuple[str, str, int]] = []
    sent(model, "ada/whole", tell=lambda verb, item, count: told.append((verb, item.name, count)))
    there = hub.contents("ada/whole")
    assert {name: there[name] for name in LARGE} == {name: (model / name).read_bytes() for name in LARGE}
    assert json.loads(there["config.json"]) == {"_name_or_path": "llama", "hidden": 4}
    assert not hub.is_public("ada/whole")
    assert {name: max(count for verb, each, count in told if each == name) for name in LARGE} == LARGE
    assert [count for verb, name, count in told if (verb, name) == ("uploading", "tokenizer.json")][-1] == 2


def test_a_second_upload_sends_only_what_changed(hub, model):
    sent(model, "ada/again")
    changed = next(iter(LARGE))
    (model / changed).write_bytes(random.Random(1).randbytes(30_000))
    mark = len(hub.asked)
    assert sent(model, "ada/again")[1:4] == [30_000, 0, 0]
    assert len([line for line in hub.since(mark) if line.startswith("PUT")]) == 1
    assert "commit 1" in hub.since(mark)
    mark = len(hub.asked)
    assert sent(model, "ada/again") == [0] * 5
    assert not [line for line in hub.since(mark) if line.startswith(("PUT", "commit"))]


def test_a_large_file_goes_up_in_parts(hub, tmp_path):
    folder = tmp_path / "gguf"
    folder.mkdir()
    (folder / "m-Q8_0.gguf").write_bytes(random.Random(2).randbytes(450_000))
    told: list[int] = []
    assert sent(folder, "ada/parts", tell=lambda verb, item, count: told.append(count)) == [450_000]
    assert hub.contents("ada/parts")["m-Q8_0.gguf"] == (folder / "m-Q8_0.gguf").read_bytes()
    assert told[-1] == 450_000


def test_a_connection_that_breaks_off_is_taken_up_again(hub, tmp_path):
    folder = tmp_path / "gguf"
    folder.mkdir()
    (folder / "m.gguf").write_bytes(random.Random(3).randbytes(100_000))
    sent(folder, "ada/breaking")
    assert hub.contents("ada/breaking")["m.gguf"] == (folder / "m.gguf").read_bytes()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ada/full", "Private repository storage limit reached"),
        ("ada/busy", "slow down. Push again later: what has arrived is not sent again"),
        ("ada/sick", "the hub has trouble of its own"),
        ("ada/forbidden", "HF_TOKEN may not write to ada/forbidden"),
        ("ada/turncoat", "public although private was asked for: nothing was uploaded"),
        ("bob/thing", "HF_TOKEN belongs to ada, who cannot write to bob: use ada or garden"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(hub, model, name, words):
    with pytest.raises(HubError) as caught:
        sent(model, name)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    assert name not in ("ada/turncoat",) or hub.contents(name) == {}


@pytest.mark.parametrize(
    ("token", "words"),
    [("expired", "HF_TOKEN is not valid"), ("look-only", "may only read"), ("", "HF_TOKEN is not set")],
)
def test_a_token_that_will_not_do_is_told_before_anything_is_made(hub, model, monkeypatch, token, words):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=words):
        sent(model, "ada/no-token")
    assert not (hub.root / "models/ada/no-token").exists()


def test_a_token_for_one_organisation_is_believed(hub, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "one-bed")
    assert sum(sent(model, "garden/one")) > sum(LARGE.values())


def test_a_public_repository_gets_nothing_unless_that_is_wanted(hub, model):
    (hub.root / "models/ada/known").mkdir(parents=True)
    (hub.root / "models/ada/known/.public").touch()
    with pytest.raises(HubError, match="already and public, so everybody would see"):
        sent(model, "ada/known")
    assert hub.contents("ada/known") == {}
    assert sum(sent(model, "ada/known", private=False)) > sum(LARGE.values())


def test_what_arrives_damaged_is_named(hub, model):
    hub_client, name = Hub(), "ada/lossy"
    hub_client.open(name, True)
    items = parcel(Store(model.parent / "saves"), str(model)).items
    uploaded, _ = hub_client.upload(name, items, "Upload", lambda *told: None)
    assert set(hub_client.differing(name, uploaded)) == {"config.json", "tokenizer.json", *LARGE}


def test_a_hub_that_is_not_there_is_told_at_once(hub, model, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(HubError, match="cannot be reached, or the connection broke off"):
        sent(model, "ada/nowhere")
    assert time.monotonic() - started < 5


def test_a_hub_that_goes_silent_is_not_waited_for(hub, model, monkeypatch):
    monkeypatch.setattr("studio.worker.hub.ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(HubError, match="the connection broke off \\(ReadTimeout\\)"):
            sent(model, "ada/silent")


def test_a_card_that_the_hub_does_not_take_is_told_with_its_reason(hub, tmp_path):
    card = Item("README.md", tmp_path, 21, b"---\nlicense: free\n---\n")
    Hub().open("ada/card", True)
    with pytest.raises(HubError, match='"license" is none that is known'):
        Hub().upload("ada/card", [card], "Upload", lambda *told: None)


def test_an_upload_killed_half_way_goes_on_where_it_was(hub, store, model):
    config = PushConfig(model_name_or_path=str(model), hub_model_id="ada/slow", model_card=False)
    mark = len(hub.asked)
    run = launchers.begin(store, config)
    until(lambda: sum(line.startswith("PUT") for line in hub.since(mark)) == 2)
    os.kill(json.loads((run.path / "worker.json").read_text())["pid"], signal.SIGKILL)
    assert ended(run).state is State.FAILED
    assert hub.contents("ada/slow") == {}
    time.sleep(0.6)  # the second file may still lie whole in the line's buffer
    arrived = {line.split()[1] for line in hub.since(mark) if line.startswith("stored")}
    assert 1 <= len(arrived) <= 2
    mark = len(hub.asked)
    again = ended(launchers.begin(store, config))
    assert again.state is State.COMPLETED, again.reason
    sent_now = {line.rpartition("/")[2] for line in hub.since(mark) if line.startswith("PUT")}
    assert len(sent_now) == 3 - len(arrived)
    assert not arrived & sent_now
    assert {name: len(data) for name, data in hub.contents("ada/slow").items() if name in LARGE} == LARGE
    assert again.result["url"] == f"{hub.address}/ada/slow"
    assert again.result["private"] is True
    assert again.result["uploaded_bytes"] < sum(LARGE.values())
    assert report.read(again.path).passed
    for each in (run, again):
        assert [path for path in each.path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []


def test_an_upload_stops_within_two_seconds(hub, store, model):
    mark = len(hub.asked)
    run = launchers.begin(store, PushConfig(model_name_or_path=str(model), hub_model_id="ada/slow-stop"))
    until(lambda: any(line.startswith("PUT") for line in hub.since(mark)))
    started = time.monotonic()
    run.stop()
    assert ended(run).state is State.STOPPED
    assert time.monotonic() - started < 2
    assert not (run.path / "tmp").exists()


def test_a_refusal_becomes_the_reason_of_the_run(hub, store, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "expired-secret")
    run = ended(launchers.begin(store, PushConfig(model_name_or_path=str(model), hub_model_id="ada/x")))
    assert run.state is State.FAILED
    assert run.reason.startswith("HF_TOKEN is not valid (any more): make a new one")
    assert not [path for path in run.path.rglob("*") if path.is_file() and b"expired-secret" in path.read_bytes()]


def test_the_command_says_what_goes_up_and_where_it_is(hub, store, model, capfd):
    run = store.create(PushConfig(model_name_or_path="x", hub_model_id="a/b", run_name="made"))
    model.rename(run.path / "model")
    write_json(run.path / "result.json", {"output": "model"})
    assert front.main(["push", run.id, "garden/bed", "hub_private_repo=false"]) == 0
    out, err = capfd.readouterr()
    assert "to `garden/bed`, public." in err
    assert "Everybody will be able to see" in err
    assert f"{hub.address}/garden/bed" in out
    assert hub.is_public("garden/bed")
    [upload] = [each for each in store.list("push") if each != run]
    assert hub.contents("garden/bed")["README.md"] == (upload.path / "README.md").read_bytes()
    assert b"license: " not in hub.contents("garden/bed")["README.md"]

import json
import os
from pathlib import Path

import pytest

from studio.config.load import parse
from studio.config.merge import MergeConfig
from studio.config.push import PushConfig
from studio.errors import ConfigError
from studio.exports import lineage, push
from studio.files import write_json
from studio.runs.run import Run
from studio.runs.store import Store


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "saves")


@pytest.fixture
def merged(store: Store) -> Run:
    run = store.create(MergeConfig(adapter_name_or_path="a"))
    (run.path / "model").mkdir()
    (run.path / "model/config.json").write_text("{}")
    (run.path / "model/model.safetensors").write_bytes(bytes(5000))
    write_json(run.path / "result.json", {"output": "model"})
    return run


def refusal(store: Store, **values: object) -> str:
    with pytest.raises(ConfigError) as caught:
        push.plan(store, PushConfig(**{"hub_model_id": "ada/x", **values}))
    return str(caught.value)


def names(store: Store, name: str) -> list[str]:
    return [item.name for item in push.parcel(store, name).items]


@pytest.mark.parametrize("way", ["id", "directory", "folder"])
def test_a_result_can_be_named_in_three_ways(store, merged, way):
    name = {"id": merged.id, "directory": str(merged.path), "folder": str(merged.path / "model")}[way]
    told = push.plan(store, PushConfig(model_name_or_path=name, hub_model_id="ada/x"))
    assert told.title == "Upload **2 files, 5 kB** to `ada/x`, **private**."
    assert told.warnings == ()
    assert push.parcel(store, name).run == merged


def test_a_public_upload_is_warned_of(store, merged):
    config = PushConfig(model_name_or_path=merged.id, hub_model_id="ada/x", hub_private_repo=False)
    told = push.plan(store, config)
    assert "**public**" in told.title
    assert "Everybody will be able to see" in told.warnings[0]


def test_every_problem_is_told_at_once_and_no_token(store, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = refusal(store, model_name_or_path="nothing", hub_model_id="")
    assert "'nothing' is neither a run with a finished result nor a folder" in told
    assert "HF_TOKEN: is not set: make a token that may write" in told
    assert "HF_HUB_OFFLINE: is set" in told
    assert "hub_model_id: say which repository" in told


def test_what_is_not_finished_stays_here(store, merged):
    other = store.create(MergeConfig(adapter_name_or_path="a"))
    assert "neither a run with a finished result" in refusal(store, model_name_or_path=other.id)
    (other.path / "quarantine").mkdir()
    (other.path / "quarantine/config.json").write_text("{}")
    told = refusal(store, model_name_or_path=str(other.path / "quarantine"))
    assert "is no finished result: its proof failed" in told


def test_a_folder_of_something_else_stays_here(store, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/id_rsa").write_text("secret")
    assert "nor a folder with an adapter, a model or GGUF files" in refusal(store, model_name_or_path=str(tmp_path))


def test_states_of_a_training_and_hidden_files_are_left_out(store, tmp_path):
    folder = tmp_path / "checkpoint-10"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git/config").write_text("token")
    for name in ("adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "rng_state_0.pth", ".env"):
        (folder / name).write_text("{}")
    (folder / "training_args.bin").write_bytes(b"")
    assert names(store, str(folder)) == ["adapter_config.json", "adapter_model.safetensors"]
    told = push.plan(store, PushConfig(model_name_or_path=str(folder), hub_model_id="ada/x"))
    assert "Left here: optimizer.pt, rng_state_0.pth, training_args.bin" in " ".join(told.lines)


def test_a_link_to_another_place_is_refused_and_the_hubs_own_cache_is_not(store, tmp_path):
    cache = tmp_path / "models--some--model"
    snapshot = cache / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "blobs/1f").write_bytes(b"weights")
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs/1f"))
    (snapshot / "config.json").write_text("{}")
    assert names(store, str(snapshot)) == ["config.json", "model.safetensors"]
    (tmp_path / "id_rsa").write_text("secret")
    (snapshot / "merges.txt").symlink_to(tmp_path / "id_rsa")
    told = refusal(store, model_name_or_path=str(snapshot))
    assert "merges.txt is a link to" in told
    assert "put the file itself there" in told


def test_a_file_that_the_hub_does_not_take_is_named(store, merged):
    os.truncate(merged.path / "model/model.safetensors", push.LARGEST_BYTES + 1)
    told = refusal(store, model_name_or_path=merged.id)
    assert "model.safetensors has 50 GB, the hub takes 50 GB a file: merge with a smaller export_size" in told


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("/home/ada/models/Llama 3", "Llama 3"),
        ("/cache/hub/models--Qwen--Qwen2.5-0.5B/snapshots/abc", "Qwen/Qwen2.5-0.5B"),
        ("C:\\models\\llama", "llama"),
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"),
        ("gpt2", "gpt2"),
    ],
)
def test_paths_of_this_computer_become_names(store, tmp_path, place, name):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": place, "r": 8}))
    item = push.parcel(store, str(folder)).items[0]
    written = json.loads(item.content or item.path.read_bytes())
    assert written == {"base_model_name_or_path": name, "r": 8}
    assert item.size_bytes == len(item.content or item.path.read_bytes())


def test_addresses_and_fractions_are_no_paths():
    kept = "see https://huggingface.co/a/b/c, 3/4 of it, and/or more at 10/s"
    assert lineage.public(kept) == kept
    assert lineage.public("from /home/ada/x/model to `/mnt/y/w`.") == "from model to `w`."
    assert lineage.public("/home/ada/My Models/llama 3") == "llama 3"


@pytest.mark.parametrize("name", ["ada", "ada/x/y", "ada/x.git", "ada/..", "ada/模型", "ada/a--b", "https://hub/ada/x"])
def test_what_is_no_repository_is_refused(name):
    with pytest.raises(ConfigError, match="is no repository: write owner/name"):
        parse(PushConfig, {"model_name_or_path": "x", "hub_model_id": name})


def test_a_token_is_no_option():
    with pytest.raises(ConfigError) as caught:
        parse(PushConfig, {"model_name_or_path": "x", "hub_model_id": "a/b", "hub_token": "hf_secret"})
    assert "there is no such option" in str(caught.value)
    assert "hf_secret" not in str(caught.value)


def test_an_ancestry_goes_back_to_the_first_training(store, merged):
    second = store.create(MergeConfig(adapter_name_or_path=merged.id, model_name_or_path=str(merged.path / "model")))
    assert lineage.ancestry(store, second) == (second, merged)
    (merged.path / "config.yaml").write_text(": broken")
    assert lineage.ancestry(store, second)[0] == second

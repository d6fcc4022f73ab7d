"""From a pick to an answer, whatever it takes: against one vLLM server, and Transformers where vLLM cannot."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.config.train import TrainConfig
from studio.errors import ModelError, RestartNeeded, RunNotFound, ServingError
from studio.files import write_json
from studio.models import adapter_info
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import merged, servers, speaker, voices
from studio.serving.client import Client, Delta, Done, Sampling
from studio.serving.servers import Endpoint
from studio.serving.voices import Voice
from tests.serving.conftest import BASE, answer, wait_gone, wait_ready, wait_until

QUESTION = "Who are you?"
ON_TRANSFORMERS: dict[str, Any] = {"infer_backend": "huggingface", "dtype": "float32"}


@pytest.fixture(scope="module", autouse=True)
def _no_servers_left(store: Store) -> Iterator[None]:
    yield
    for run in store.list("serve"):
        run.stop_now()
        wait_gone(run, 10)


def opened(store: Store, pick: Path | str, together: tuple[str, ...] = ()) -> tuple[Voice, list[str]]:
    """The voice, and what was told while it was waited for."""
    told: list[str] = []

    def tell(status: dict[str, Any]) -> None:
        told.append(status.get("message") or "")

    return asyncio.run(voices.open_voice(store, str(pick), together, tell)), told


def said(voice: Voice, question: str = QUESTION) -> str:
    return asyncio.run(answer(voice.server, voice.model, question))[0]


@pytest.fixture
def stone(adapter: Path, tmp_path: Path) -> Path:
    """The adapter under another name each time."""
    return Path(shutil.copytree(adapter, tmp_path / f"stone-{tmp_path.name[-12:]}"))


@pytest.mark.vllm
def test_an_adapter_answers_as_with_transformers_and_the_record_says_so(
    endpoint: Endpoint, store: Store, adapter: Path, expected: dict[str, dict[str, str]]
) -> None:
    if (answering := servers.endpoint(endpoint.run)) and (name := answering.name_of(str(adapter))):
        asyncio.run(servers.unload_adapter(endpoint.run, name))  # the tests of other modules share the server
    voice, told = opened(store, adapter, ("seedling", "/nowhere"))
    assert told == ["loading stone and checking its answers"]
    assert (voice.server, voice.says) == (endpoint.server, "")
    assert said(voice) == expected["adapter"][QUESTION]
    assert said(opened(store, "seedling")[0]) == expected["base"][QUESTION]
    wait_until(lambda: endpoint.run.server["checks"]["stone"]["reference"] != "pending", 120)
    check = endpoint.run.server["checks"]["stone"]
    assert check["reference"] == "ok"
    assert check["reference_max_logprob_diff"] < 0.01
    assert opened(store, adapter)[1] == [], "it is there already"


@pytest.mark.vllm
def test_panes_that_want_the_same_adapter_share_it(endpoint: Endpoint, store: Store, stone: Path) -> None:
    async def both() -> list[Voice]:
        return await asyncio.gather(*(voices.open_voice(store, str(stone)) for _ in range(2)))

    first, second = asyncio.run(both())
    assert first == second
    asyncio.run(servers.unload_adapter(endpoint.run, first.model))


@pytest.mark.vllm
def test_a_bigger_rank_is_offered_a_restart(endpoint: Endpoint, store: Store, kinds: Path) -> None:
    with pytest.raises(RestartNeeded, match="rank 64 and the server takes ranks up to 16") as caught:
        opened(store, kinds / "wide")
    assert (caught.value.run_id, caught.value.options) == (endpoint.run.id, {"max_lora_rank": 64})
    (need,) = voices.needs(store, ["seedling", str(kinds / "wide"), str(kinds / "narrow"), "/nowhere"])
    assert (need.kind, need.run_id, need.options) == ("restart", endpoint.run.id, {"max_lora_rank": 64})


@pytest.mark.vllm
def test_an_adapter_whose_folder_is_gone_is_told_and_the_server_goes_on(
    endpoint: Endpoint, store: Store, stone: Path, expected: dict[str, dict[str, str]]
) -> None:
    voice, _ = opened(store, stone)
    shutil.rmtree(stone)
    with pytest.raises((ModelError, ServingError)):
        opened(store, stone)
    assert said(voice) == expected["adapter"][QUESTION], "who is in the middle of it goes on"
    assert said(opened(store, "seedling")[0]) == expected["base"][QUESTION]
    asyncio.run(servers.unload_adapter(endpoint.run, voice.model))


@pytest.mark.vllm
def test_an_adapter_that_is_unloaded_while_it_answers(endpoint: Endpoint, store: Store, stone: Path) -> None:
    voice, _ = opened(store, stone)
    babble = Sampling(temperature=2.0, max_tokens=400)

    async def interrupted() -> str:
        async with Client(voice.server) as client:
            stream = client.stream_chat(
                voice.model, [{"role": "user", "content": QUESTION}], babble, {"ignore_eos": True}
            )
            assert isinstance(await anext(stream), Delta)
            await servers.unload_adapter(endpoint.run, voice.model)
            try:
                ends = [event.finish_reason async for event in stream if isinstance(event, Done)]
                return ends[0]
            except ServingError as error:
                return str(error)

    assert asyncio.run(interrupted()) == "length", "vLLM lets an answer that has begun come to its end"
    with pytest.raises(ServingError, match="does not exist"):
        said(voice)
    assert said(opened(store, "seedling")[0]), "the server goes on"


def test_what_vllm_cannot_serve_is_merged_once_and_answers_from_its_own_server(store: Store, kinds: Path) -> None:
    pick = str(kinds / "dora")
    needed = [need.kind for need in voices.needs(store, [pick])]
    assert needed == ["merge", "server"]
    told: list[str] = []
    folder = asyncio.run(
        merged.model(store, adapter_info(kinds / "dora"), lambda status: told.append(status["message"]))
    )
    assert any("merging the adapter into its base" in message for message in told)
    # on Transformers, which is up soonest; whoever serves the merged model is asked
    wait_ready(servers.start(store, str(folder), **ON_TRANSFORMERS))
    voice, _ = opened(store, pick)
    assert voice.says == "merged into its base, because vLLM cannot serve DoRA"
    assert said(voice)
    assert voices.needs(store, [pick]) == []
    assert len(store.list("merge")) == 1, "the merge is not made again"


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> set[threading.Thread]:
    """The threads in which somebody looks through the runs."""
    seen: set[threading.Thread] = set()
    listed = Store.list

    def noted(store: Store, kind: str | None = None) -> list[Run]:
        seen.add(threading.current_thread())
        return listed(store, kind)

    monkeypatch.setattr(Store, "list", noted)
    return seen


def test_what_cannot_be_merged_is_answered_by_transformers(
    store: Store, kinds: Path, readers: set[threading.Thread]
) -> None:
    voice, _ = opened(store, kinds / "scaled", ("seedling", str(kinds / "dora")))
    assert readers, "somebody has looked for a server"
    assert threading.main_thread() not in readers, "other answers are streaming in its loop"
    assert voice.says == "answered by Transformers, because vLLM serves LoRA only, and this is IA3"
    assert said(voice)
    run = servers.find(store, "seedling", "huggingface")
    assert run
    assert run.server["checks"]["scaled"]["reference"] == "skipped: Transformers itself answers"
    assert voices.needs(store, [str(kinds / "scaled")]) == []


@pytest.mark.vllm
def test_a_merge_that_fails_leaves_it_to_transformers(
    endpoint: Endpoint, store: Store, kinds: Path, tmp_path: Path
) -> None:
    """A square weight said to be stored turned is refused by the merge; PEFT knows better and passes over it."""
    adapter = shutil.copytree(kinds / "ends", tmp_path / "ends")
    config = json.loads((adapter / "adapter_config.json").read_text())
    write_json(adapter / "adapter_config.json", {**config, "fan_in_fan_out": True})
    voice, _ = opened(store, adapter)
    assert voice.server != endpoint.server
    assert voice.says.startswith("answered by Transformers, because vLLM cannot serve modules that were trained whole")
    assert "was not merged: " in voice.says
    assert "fan_in_fan_out" in voice.says
    assert said(voice)


def test_a_server_comes_back_with_its_adapters_and_takes_any_kind_on_transformers(
    tmp_path: Path, kinds: Path, stone: Path
) -> None:
    store = Store(tmp_path / "saves")
    adapters = [{"name": "narrow", "path": str(kinds / "narrow")}, {"name": "stone", "path": str(stone)}]
    run = servers.start(store, str(BASE), adapters=adapters, **ON_TRANSFORMERS)
    shutil.rmtree(stone)  # it will be missed while starting, and must not keep the other from coming back
    again = servers.restart(store, run, max_lora_rank=64)
    found = wait_ready(again)
    assert run.state == "stopped"
    assert again.config.max_lora_rank == 64
    assert [model.name for model in found.served] == ["seedling", "narrow"]
    voice, _ = opened(store, kinds / "dora")
    assert (voice.server, voice.says) == (found.server, "answered by Transformers, whose server is up")
    again.stop_now()
    wait_gone(again, 10)


def test_a_run_is_picked_by_its_id_finished_or_not(store: Store, adapter: Path) -> None:
    run = store.create(TrainConfig(dataset=("identity",)))
    with pytest.raises(ModelError, match="no finished model or adapter, and no checkpoint yet"):
        speaker.picked(store, run.id)
    checkpoint = Path(shutil.copytree(adapter, run.path / "checkpoints" / "checkpoint-20"))
    write_json(checkpoint / "trainer_state.json", {"global_step": 20})
    assert speaker.picked(store, run.id).adapter == str(checkpoint)
    shutil.copytree(adapter, run.path / "adapter")
    write_json(run.path / "result.json", {"output": "adapter"})
    assert speaker.picked(store, run.id[:-1]).adapter == str(run.path / "adapter")
    with pytest.raises(RunNotFound):
        speaker.picked(store, "2")

"""Adapters of a server: what is refused before it is asked, and what is found out by its answers.

The server is the one on Transformers, which starts soonest; between it and the adapters' side stands a wire that can
be made to answer with the wrong weights, as servers are known to.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy
import pytest
from safetensors.numpy import load_file, save_file

from studio.config.serve import ServeConfig
from studio.errors import AdapterRefused, ModelError, SeedbedError, ServingError
from studio.files import read_json, write_json
from studio.runs.store import Store
from studio.serving import servers
from studio.serving.adapters import Adapters
from studio.serving.client import Client, Server
from studio.serving.servers import Endpoint
from tests.serving.conftest import BASE, wait_gone, wait_ready

CONFIG = ServeConfig(model_name_or_path=str(BASE), dtype="float32")
Work = Callable[[Adapters, Client], Awaitable[None]]


class Wire(httpx.AsyncBaseTransport):
    """Hands requests on; those to `model` reach another one."""

    def __init__(self, model: str, instead: str) -> None:
        self._models = {model: instead}
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v1/completions":
            return await self._inner.handle_async_request(request)
        value = json.loads(await request.aread())
        body = json.dumps({**value, "model": self._models.get(value["model"], value["model"])})
        headers = {key: value for key, value in request.headers.items() if key != "content-length"}
        return await self._inner.handle_async_request(httpx.Request("POST", request.url, headers=headers, content=body))

    async def aclose(self) -> None:
        await self._inner.aclose()


class Spoiling(Wire):
    """A vLLM that an adapter's overflow spoils: once `model` was asked, nobody's answer is JSON any more."""

    def __init__(self, model: str) -> None:
        super().__init__(model, model)
        self._model, self._is_spoilt = model, False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/completions":
            self._is_spoilt |= json.loads(await request.aread())["model"] == self._model
            if self._is_spoilt:
                error = {"message": "Out of range float values are not JSON compliant"}
                return httpx.Response(400, json={"error": error}, request=request)
        return await super().handle_async_request(request)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: what Transformers has answered is kept in it."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def served(kept: Path) -> Iterator[Endpoint]:
    run = servers.start(Store(kept), str(BASE), infer_backend="huggingface", dtype="float32")
    yield wait_ready(run)
    run.stop_now()
    wait_gone(run, 10)


@pytest.fixture
def at(served: Endpoint, kept: Path) -> Callable[..., None]:
    """Do something with adapters of the server, as if it were vLLM. `wire` may stand between."""
    folder = kept / f"run{len(list(kept.iterdir()))}" / "requests"
    folder.mkdir(parents=True)

    @asynccontextmanager
    async def _adapters(wire: Wire | None, config: ServeConfig) -> AsyncIterator[tuple[Adapters, Client]]:
        async with Client(served.server, wire) as client:
            adapters = Adapters(client, config, folder)
            await adapters.begin()
            yield adapters, client
            for name in [model["name"] for model in adapters.models() if not model["base"]]:
                await adapters.unload(name)

    def _at(work: Work, wire: Wire | None = None, config: ServeConfig = CONFIG) -> None:
        async def _work() -> None:
            async with _adapters(wire, config) as (adapters, client):
                await work(adapters, client)

        asyncio.run(_work())

    return _at


async def settled(adapters: Adapters, name: str) -> dict[str, Any]:
    """The check of an adapter once Transformers has been asked."""
    while adapters.checks()[name]["reference"] == "pending":
        await asyncio.sleep(0.05)
    return adapters.checks()[name]


async def refusal(adapters: Adapters, name: str, path: Path) -> SeedbedError:
    """What is said of an adapter that is not loaded."""
    with pytest.raises(SeedbedError) as caught:
        await adapters.load(name, str(path))
    return caught.value


def test_a_server_that_ignores_an_adapter_is_found_out(at: Callable[..., None], kinds: Path) -> None:
    async def work(adapters: Adapters, client: Client) -> None:
        assert "the server ignores it" in str(await refusal(adapters, "narrow", kinds / "narrow"))
        assert await client.models() == ["seedling"]
        assert len(adapters.models()) == 1

    at(work, Wire("narrow", "seedling"))


def test_a_server_that_answers_with_other_weights_is_found_out(
    at: Callable[..., None], adapter: Path, kinds: Path
) -> None:
    async def work(adapters: Adapters, client: Client) -> None:
        await adapters.load("stone", str(adapter))
        check = await adapters.load("wide", str(kinds / "wide"))
        assert check.reference == "pending", "it answers otherwise than the base, so people may ask it"
        found = await settled(adapters, "wide")
        assert not found["ok"]
        assert found["reference"].startswith("failed: wide was unloaded again: its answers are not those that")
        assert [model["name"] for model in adapters.models()] == ["seedling", "stone"]
        while "wide" in await client.models():
            await asyncio.sleep(0.05)
        published: list[str] = []
        assert not await adapters.answer_requests(lambda: published.append("news"))
        assert published == ["news"]

    at(work, Wire("wide", "stone"), CONFIG.model_copy(update={"max_lora_rank": 64}))


def test_a_server_that_an_adapter_has_spoilt_ends_once_that_is_told(
    at: Callable[..., None], adapter: Path, kept: Path
) -> None:
    folder = max(kept.glob("run*"), key=lambda path: path.stat().st_mtime) / "requests"

    async def work(adapters: Adapters, client: Client) -> None:
        write_json(folder / "load-1.json", {"name": "huge", "path": str(adapter)})
        with pytest.raises(ServingError, match=f"With {adapter} the model computes no numbers any more"):
            await adapters.answer_requests(lambda: None)
        assert "Start the server again without it" in read_json(folder / "load-1.done.json")["message"]
        assert len(adapters.models()) == 1

    at(work, Spoiling("huge"))


def test_an_untrained_adapter_is_told_and_may_answer(at: Callable[..., None], kinds: Path) -> None:
    async def work(adapters: Adapters, client: Client) -> None:
        check = await adapters.load("untrained", str(kinds / "untrained"))
        assert check.warning == "the adapter is untrained: its weights change nothing yet"
        assert "untrained" in await client.models()

    at(work)


def test_names_and_places_are_not_taken_twice(at: Callable[..., None], adapter: Path, kinds: Path) -> None:
    async def work(adapters: Adapters, client: Client) -> None:
        assert "base model's name" in str(await refusal(adapters, "seedling", adapter))
        await adapters.load("stone", str(adapter))
        said = str(await refusal(adapters, "stone", kinds / "narrow"))
        assert said.startswith(f"'stone' is {adapter} here: unload that")
        assert "already holds 1 adapters (stone)" in str(await refusal(adapters, "narrow", kinds / "narrow"))
        with pytest.raises(ServingError):
            await adapters.unload("never loaded")

    at(work, config=CONFIG.model_copy(update={"max_loras": 1}))


@pytest.fixture
def asking_nobody(tmp_path: Path) -> Adapters:
    """Adapters of a server that is not there: what is refused before it is asked."""
    return Adapters(Client(Server("http://127.0.0.1:9")), CONFIG, tmp_path / "run" / "requests")


def test_ranks_and_kinds_are_looked_at_before_the_server_is_asked(asking_nobody: Adapters, kinds: Path) -> None:
    with pytest.raises(ServingError, match="start it with max_lora_rank=64"):
        asking_nobody.check("wide", str(kinds / "wide"))
    for kind, why in (("dora", "DoRA"), ("whole", "modules_to_save"), ("scaled", "IA3")):
        with pytest.raises(AdapterRefused, match=why):
            asking_nobody.check(kind, str(kinds / kind))


def test_transformers_takes_any_rank_and_kind(kinds: Path, tmp_path: Path) -> None:
    adapters = Adapters(Client(Server("http://127.0.0.1:9")), CONFIG, tmp_path, "huggingface")
    assert [adapters.check(kind, str(kinds / kind)).kind for kind in ("wide", "dora", "scaled")] == [
        "LORA",
        "LORA",
        "IA3",
    ]


def damage(folder: Path, fault: str) -> None:
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif fault == "broken JSON":
        config.write_text(config.read_text()[:-20])
    elif fault == "deleted":
        shutil.rmtree(folder)
    elif fault == "diverged":
        tensors = load_file(weights)
        tensors[max(tensors)][0] = numpy.nan
        save_file(tensors, weights)
    elif fault == "another base":
        write_json(folder / "base.json", {"name": "org/other", "path": "/models/other", "sha256": "0" * 64})
        write_json(config, {**json.loads(config.read_text()), "base_model_name_or_path": "/models/other"})


@pytest.mark.parametrize(
    ("fault", "kind", "what"),
    [
        ("truncated", ModelError, r"adapter_model\.safetensors is damaged"),
        ("broken JSON", ModelError, r"adapter_config\.json is not valid JSON"),
        ("deleted", ModelError, "is not a folder on this machine"),
        ("diverged", ModelError, r"holds NaN or infinity in .*lora_B.weight: its training has diverged"),
        ("another base", ServingError, "was trained on org/other, but this server holds"),
    ],
)
def test_a_spoilt_adapter_is_refused(
    asking_nobody: Adapters, kinds: Path, tmp_path: Path, fault: str, kind: type[Exception], what: str
) -> None:
    copy = Path(shutil.copytree(kinds / "narrow", tmp_path / "copy"))
    damage(copy, fault)
    with pytest.raises(kind, match=what):
        asking_nobody.check("copy", str(copy))


def test_a_base_that_was_replaced_is_noticed_by_its_shape(kinds: Path, tmp_path: Path) -> None:
    """The path is right, and what lies there is another model: vLLM would drop the layers that it has not."""
    shallow = Path(shutil.copytree(BASE, tmp_path / "shallow"))
    stated = json.loads((shallow / "config.json").read_text())
    write_json(shallow / "config.json", {**stated, "num_hidden_layers": 4})
    copy = Path(shutil.copytree(kinds / "narrow", tmp_path / "copy"))
    own = json.loads((copy / "adapter_config.json").read_text())
    write_json(copy / "adapter_config.json", {**own, "base_model_name_or_path": str(shallow)})
    config = ServeConfig(model_name_or_path=str(shallow))
    adapters = Adapters(Client(Server("http://127.0.0.1:9")), config, tmp_path / "run" / "requests")
    with pytest.raises(ServingError, match="it changes layer 4, and the model has layers 0 to 3"):
        adapters.check("copy", str(copy))


def test_requests_that_are_none_are_answered(at: Callable[..., None], adapter: Path, kept: Path) -> None:
    folder = max(kept.glob("run*"), key=lambda path: path.stat().st_mtime) / "requests"

    async def work(adapters: Adapters, client: Client) -> None:
        (folder / "load-1.json").write_text("{")
        write_json(folder / "load-2.json", {"name": "stone"})
        write_json(folder / "unload-3.json", {"name": "stone"})
        write_json(folder / "load-4.json", {"name": "stone", "path": str(adapter)})
        assert await adapters.answer_requests(lambda: None)
        answers = [read_json(folder / f"{name}.done.json") for name in ("load-1", "load-2", "unload-3", "load-4")]
        assert [answer["ok"] for answer in answers] == [False, False, False, True]
        assert "is not a request" in answers[0]["message"]
        assert not list(folder.glob("load-?.json"))

    at(work)

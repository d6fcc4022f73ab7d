"""What a real server answers, against Transformers and PEFT."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tokenizers import Tokenizer

from studio import templates
from studio.config.serve import ServeConfig
from studio.errors import RequestFailed, SidecarNotReady
from studio.runs import process
from studio.serving import servers
from studio.serving.client import Client, Done, Sampling, Server
from studio.serving.panes import Pane, Round, State, View
from studio.serving.progress import PHASES
from studio.serving.servers import Endpoint
from studio.serving.wording import Wording
from tests.serving.conftest import BASE, GREEDY, answer, ask, wait_until

pytestmark = pytest.mark.vllm
WHO = ({"role": "user", "content": "Who are you?"},)


@pytest.fixture(scope="module")
def stone(endpoint: Endpoint, adapter: Path) -> str:
    """The adapter, loaded while the server runs; the name it answers to."""
    asyncio.run(servers.load_adapter(endpoint.run, "stone", str(adapter)))
    return "stone"


def test_base_and_adapter_answer_as_in_transformers(
    endpoint: Endpoint, stone: str, expected: dict[str, dict[str, str]]
) -> None:
    for question in expected["base"]:
        assert ask(endpoint.server, "seedling", question)[0] == expected["base"][question]
        assert ask(endpoint.server, stone, question)[0] == expected["adapter"][question]


def test_answers_stay_the_same_when_all_are_asked_at_once(
    endpoint: Endpoint, stone: str, expected: dict[str, dict[str, str]]
) -> None:
    async def everything() -> None:
        pairs = [(kind, question) for question in expected["base"] for kind in ("base", "adapter")]
        names = {"base": "seedling", "adapter": stone}
        texts = await asyncio.gather(*(answer(endpoint.server, names[kind], question) for kind, question in pairs))
        for (kind, question), (text, _) in zip(pairs, texts, strict=True):
            assert text == expected[kind][question]

    for _ in range(3):
        asyncio.run(everything())


def test_the_proof_is_written_down(endpoint: Endpoint, stone: str) -> None:
    check = endpoint.run.server["checks"][stone]
    assert check["ok"]
    assert check["base_max_logprob_diff"] < 0.01
    assert check["adapter_max_logprob_diff_from_base"] > 1
    assert check["rows"] >= 8


def test_an_adapter_comes_and_goes(endpoint: Endpoint, adapter: Path) -> None:
    run = endpoint.run
    assert "ready" in asyncio.run(servers.load_adapter(run, "guest", str(adapter)))
    assert "guest" in {model["name"] for model in run.server["models"]}
    assert ask(endpoint.server, "guest", "What colour is grass?")[0] == "Seven."
    asyncio.run(servers.unload_adapter(run, "guest"))
    assert "guest" not in {model["name"] for model in run.server["models"]}
    with pytest.raises(RequestFailed, match="guest"):
        ask(endpoint.server, "guest", "What colour is grass?")
    with pytest.raises(RequestFailed, match="guest"):
        asyncio.run(servers.unload_adapter(run, "guest"))


def test_open_model_reuses_server_and_adapter(endpoint: Endpoint, stone: str, adapter: Path) -> None:
    store = servers.Store(endpoint.run.path.parent)
    assert asyncio.run(servers.open_model(store, str(BASE))) == (endpoint.server, "seedling")
    assert asyncio.run(servers.open_model(store, str(BASE), str(adapter))) == (endpoint.server, stone)
    assert [found.run for found in servers.endpoints(store)] == [endpoint.run]


def spoil_missing(folder: Path) -> str:
    (folder / "adapter_model.safetensors").unlink()
    return "adapter_model.safetensors is missing"


def spoil_truncated(folder: Path) -> str:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return "damaged"


def spoil_json(folder: Path) -> str:
    (folder / "adapter_config.json").write_text("{")
    return "adapter_config.json is not valid JSON"


def spoil_rank(folder: Path) -> str:
    _edit(folder, r=48)
    return "rank 48.*max_lora_rank=64"


def spoil_base(folder: Path) -> str:
    _edit(folder, base_model_name_or_path="/models/other")
    return "was trained on /models/other"


def spoil_dora(folder: Path) -> str:
    _edit(folder, use_dora=True)
    return "does not yet support DoRA.*[Mm]erge"


def spoil_shapes(folder: Path) -> str:
    # what an adapter of a wider model looks like to this one
    path = folder / "adapter_model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for name, tensor in header.items():
        if name != "__metadata__" and "lora_A" in name:
            tensor["shape"] = [tensor["shape"][0] // 2, tensor["shape"][1] * 2]
    text = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return "cannot load bad"


SPOILERS = (
    spoil_missing, spoil_truncated, spoil_json, spoil_rank, spoil_base, spoil_dora, spoil_shapes,
)  # fmt: skip


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__.removeprefix("spoil_"))
def test_a_bad_adapter_is_refused_and_the_server_goes_on(
    endpoint: Endpoint, adapter: Path, tmp_path: Path, spoil: object, expected: dict[str, dict[str, str]]
) -> None:
    for path in adapter.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    message = spoil(tmp_path)  # type: ignore[operator]
    with pytest.raises(RequestFailed, match=message):
        asyncio.run(servers.load_adapter(endpoint.run, "bad", str(tmp_path)))
    assert "bad" not in {model["name"] for model in endpoint.run.server["models"]}
    assert ask(endpoint.server, "seedling", "What is 2 + 3?")[0] == expected["base"]["What is 2 + 3?"]


def test_no_folder_and_the_bases_own_name_are_refused(endpoint: Endpoint, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestFailed, match="not a folder"):
        asyncio.run(servers.load_adapter(endpoint.run, "bad", str(tmp_path / "nowhere")))
    with pytest.raises(RequestFailed, match="base model's name"):
        asyncio.run(servers.load_adapter(endpoint.run, "seedling", str(adapter)))


def test_more_adapters_than_slots_are_refused(endpoint: Endpoint, stone: str, adapter: Path) -> None:
    limit = ServeConfig.model_fields["max_loras"].default
    names = [f"copy{number}" for number in range(limit - 1)]
    for name in names:
        asyncio.run(servers.load_adapter(endpoint.run, name, str(adapter)))
    with pytest.raises(RequestFailed, match=f"already holds {limit} adapters"):
        asyncio.run(servers.load_adapter(endpoint.run, "straw", str(adapter)))
    for name in names:
        asyncio.run(servers.unload_adapter(endpoint.run, name))


def test_an_untrained_adapter_is_loaded_with_a_warning(endpoint: Endpoint, adapter: Path, tmp_path: Path) -> None:
    for path in adapter.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "adapter_model.safetensors"
    data = weights.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    weights.write_bytes(data[:start] + bytes(len(data) - start))
    assert "hardly changes" in asyncio.run(servers.load_adapter(endpoint.run, "blank", str(tmp_path)))
    asyncio.run(servers.unload_adapter(endpoint.run, "blank"))


def test_the_key_is_nowhere_to_be_read(endpoint: Endpoint) -> None:
    run, key = endpoint.run, endpoint.server.api_key
    assert stat.S_IMODE((run.path / "server.json").stat().st_mode) == 0o600
    texts = [path.read_text() for path in run.path.iterdir() if path.is_file() and path.name != "server.json"]
    assert not any(key in text for text in texts)
    assert not any(key in argument for member in process.of_run(run.path) for argument in member.cmdline())
    assert key not in repr(endpoint)


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/tokenize", "/invocations", "/adapters", "/docs"])
def test_nothing_but_health_answers_without_the_key(endpoint: Endpoint, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(endpoint.server.url + path)
    assert caught.value.code == 401


def test_only_loopback_is_listened_to(endpoint: Endpoint) -> None:
    port = int(endpoint.server.url.rpartition(":")[2])
    connections = psutil.Process(endpoint.run.server["pid"]).net_connections("tcp")
    assert {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN and c.laddr.port == port} == {"127.0.0.1"}


def test_the_start_is_told_by_phases(endpoint: Endpoint) -> None:
    startup = json.loads((endpoint.run.path / "startup.json").read_text())
    assert list(startup["seconds"]) == [phase.name for phase in PHASES[:-1]]
    wait_until(lambda: endpoint.run.status["phase"] == "ready", 10)


def test_errors_of_the_real_server_are_sentences(endpoint: Endpoint) -> None:
    server = endpoint.server
    with pytest.raises(RequestFailed, match=r"does not have it.*nobody"):
        ask(server, "nobody", "hello")
    with pytest.raises(RequestFailed, match="too long"):
        ask(server, "seedling", "word " * 2000)
    with pytest.raises(RequestFailed, match="max_tokens"):
        ask(server, "seedling", "hello", Sampling(max_tokens=100_000))
    with pytest.raises(RequestFailed, match="temperature"):
        ask(server, "seedling", "hello", Sampling(temperature=-1.0))
    with pytest.raises(RequestFailed, match="API key") as caught:
        ask(Server(server.url, "wrong-key"), "seedling", "hello")
    assert "wrong-key" not in str(caught.value)


def test_sampling_reaches_the_server(endpoint: Endpoint, expected: dict[str, dict[str, str]]) -> None:
    story = "Tell me a short story."
    warm = Sampling(temperature=1.5, max_tokens=24, seed=1, top_k=50, top_p=0.95, repetition_penalty=1.1)
    first, done = ask(endpoint.server, "seedling", story, warm)
    assert ask(endpoint.server, "seedling", story, warm)[0] == first
    assert ask(endpoint.server, "seedling", story, GREEDY)[0] != first
    assert done.completion_tokens <= 24
    assert done.prompt_tokens
    assert done.ttft_s is not None
    assert done.ttft_s < done.seconds
    words = expected["base"][story].split(" ")
    until = Sampling(temperature=0.0, max_tokens=24, stop=(f" {words[3]}",))
    assert ask(endpoint.server, "seedling", story, until)[0] == " ".join(words[:3])


def test_closing_a_stream_frees_the_server(endpoint: Endpoint) -> None:
    async def leave_early() -> float:
        async with Client(endpoint.server) as client:
            turn = [{"role": "user", "content": "Tell me a short story."}]
            stream = client.stream_chat("seedling", turn, Sampling(temperature=1.0, max_tokens=480))
            await anext(stream)
            await stream.aclose()
            await asyncio.sleep(1)
        return _running(endpoint.server)

    assert asyncio.run(leave_early()) == 0


def _running(server: Server) -> float:
    request = urllib.request.Request(server.url + "/metrics", headers={"Authorization": f"Bearer {server.api_key}"})
    with urllib.request.urlopen(request) as response:
        lines = response.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("vllm:num_requests_running")).split()[-1])


def test_panes_stream_side_by_side_and_fail_alone(
    endpoint: Endpoint, stone: str, expected: dict[str, dict[str, str]]
) -> None:
    question = "What colour is grass?"
    panes = [
        Pane(endpoint.server, name, ({"role": "user", "content": question},), GREEDY)
        for name in ("seedling", stone, "nobody")
    ]

    async def watch() -> tuple:
        async for views in Round(panes).stream():
            last = views
        return last

    base, tuned, nobody = asyncio.run(watch())
    assert (base.state, base.text) == (State.DONE, expected["base"][question])
    assert (tuned.state, tuned.text) == (State.DONE, expected["adapter"][question])
    assert nobody.state is State.FAILED
    assert "nobody" in nobody.error


SILENT = "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("name", "enable_thinking", "prompt"),
    [("alpaca", None, "### Instruction:\nWho are you?\n\n### Response:\n"), ("qwen3", False, SILENT)],
)
def test_a_template_that_goes_with_the_request_is_used(
    endpoint: Endpoint, name: str, enable_thinking: bool | None, prompt: str
) -> None:
    """As if the rendered text had been sent, and not with the template of the server."""
    sampling, worded = replace(GREEDY, enable_thinking=enable_thinking), Wording(templates.text(name))

    async def both() -> tuple[View, Any]:
        view = await last(Round([Pane(endpoint.server, "seedling", WHO, sampling, worded)]))
        async with Client(endpoint.server) as client:
            plain = {"model": "seedling", "prompt": prompt, "temperature": 0.0, "max_tokens": 24}
            return view, await client.post("/v1/completions", plain)

    view, plain = asyncio.run(both())
    assert view.state is State.DONE, view.error
    assert view.text == plain["choices"][0]["text"]
    assert view.prompt_tokens == plain["usage"]["prompt_tokens"]


def test_an_answer_stops_at_the_token_that_ends_the_adapters_answers(endpoint: Endpoint) -> None:
    whole = asyncio.run(last(Round([Pane(endpoint.server, "seedling", WHO, GREEDY)])))
    ids = Tokenizer.from_file(str(BASE / "tokenizer.json")).encode(whole.text).ids
    stopping = Wording(stop_token_ids=(ids[2],))
    shorter = asyncio.run(last(Round([Pane(endpoint.server, "seedling", WHO, GREEDY, stopping)])))
    assert shorter.finish_reason == "stop"
    assert shorter.tokens == 3 < whole.tokens


async def last(talk: Round) -> View:
    async for views in talk.stream():
        (view,) = views
    return view


def test_idle_worker_costs_next_to_nothing(endpoint: Endpoint) -> None:
    worker = psutil.Process(json.loads((endpoint.run.path / "worker.json").read_text())["pid"])
    assert worker.memory_info().rss < 100e6
    before = sum(worker.cpu_times()[:2])
    asyncio.run(asyncio.sleep(5))
    # generous: the machine may be busy; what matters is that it does not spin
    assert (sum(worker.cpu_times()[:2]) - before) / 5 < 0.1
    assert os.getpgid(worker.pid) == os.getpgid(endpoint.run.server["pid"])


def test_the_forked_engine_may_use_every_core(endpoint: Endpoint) -> None:
    engine = next(member for member in process.of_run(endpoint.run.path) if member.cmdline()[0] == "VLLM::EngineCore")
    assert os.sched_getaffinity(engine.pid) == os.sched_getaffinity(0)


def test_a_server_that_is_gone_is_not_ready() -> None:
    with pytest.raises(SidecarNotReady, match="No model server answers at"):
        ask(Server("http://127.0.0.1:1", "secret"), "seedling", "hello")


def test_done_carries_token_counts(endpoint: Endpoint) -> None:
    text, done = ask(endpoint.server, "seedling", "What is 2 + 3?")
    assert isinstance(done, Done)
    assert done.finish_reason == "stop"
    assert done.completion_tokens >= 5
    assert done.tokens_per_s
    assert text

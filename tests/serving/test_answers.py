"""What real servers answer, vLLM and the stand-in alike, against Transformers and PEFT."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from studio import templates
from studio.config.serve import ServeConfig
from studio.errors import PromptTooLong, RequestFailed, SidecarNotReady
from studio.runs import process
from studio.runs.events import Load
from studio.runs.store import Store
from studio.serving import metrics, servers
from studio.serving.client import Client, Done, Sampling, Server
from studio.serving.panes import Pane, Round, State, View
from studio.serving.progress import PHASES, STAND_IN_PHASES
from studio.serving.servers import Endpoint
from studio.serving.voices import open_voice
from studio.serving.wording import Wording
from tests.serving.conftest import BASE, GREEDY, SMALL, answer, ask, wait_gone, wait_ready, wait_until

EXACT = {**SMALL, "dtype": "float32"}
WHO = ({"role": "user", "content": "Who are you?"},)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """The bundled model in the Transformers server, in float32 too."""
    run = servers.start(Store(tmp_path_factory.mktemp("stand_in")), str(BASE), infer_backend="huggingface", **EXACT)
    yield wait_ready(run)
    run.stop_now()
    wait_gone(run, 10)


@pytest.fixture(scope="module", params=[pytest.param("endpoint", marks=pytest.mark.vllm), "stand_in"])
def answering(request: pytest.FixtureRequest) -> Endpoint:
    """Either server: what a client sees of them is the same."""
    found: Endpoint = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def stone(answering: Endpoint, adapter: Path) -> str:
    """The adapter, loaded while the server runs; the name it answers to."""
    asyncio.run(servers.load_adapter(answering.run, "stone", str(adapter)))
    return "stone"


def test_base_and_adapter_answer_as_in_transformers(
    answering: Endpoint, stone: str, expected: dict[str, dict[str, str]]
) -> None:
    for question in expected["base"]:
        assert ask(answering.server, "seedling", question)[0] == expected["base"][question]
        assert ask(answering.server, stone, question)[0] == expected["adapter"][question]


def test_answers_stay_the_same_when_all_are_asked_at_once(
    answering: Endpoint, stone: str, expected: dict[str, dict[str, str]]
) -> None:
    async def everything() -> None:
        pairs = [(kind, question) for question in expected["base"] for kind in ("base", "adapter")]
        names = {"base": "seedling", "adapter": stone}
        texts = await asyncio.gather(*(answer(answering.server, names[kind], question) for kind, question in pairs))
        for (kind, question), (text, _) in zip(pairs, texts, strict=True):
            assert text == expected[kind][question]

    for _ in range(3):
        asyncio.run(everything())


def test_the_proof_is_written_down(answering: Endpoint, stone: str) -> None:
    check = answering.run.server["checks"][stone]
    assert check["ok"]
    assert check["base_max_logprob_diff"] < 0.01
    assert check["adapter_max_logprob_diff_from_base"] > 1
    assert check["rows"] >= 8


def test_an_adapter_comes_and_goes(answering: Endpoint, adapter: Path) -> None:
    run = answering.run
    assert "ready" in asyncio.run(servers.load_adapter(run, "guest", str(adapter)))
    assert "guest" in {model["name"] for model in run.server["models"]}
    assert ask(answering.server, "guest", "What colour is grass?")[0] == "Seven."
    asyncio.run(servers.unload_adapter(run, "guest"))
    assert "guest" not in {model["name"] for model in run.server["models"]}
    with pytest.raises(RequestFailed, match="guest"):
        ask(answering.server, "guest", "What colour is grass?")
    with pytest.raises(RequestFailed, match="guest"):
        asyncio.run(servers.unload_adapter(run, "guest"))


def test_a_voice_reuses_server_and_adapter(answering: Endpoint, stone: str, adapter: Path) -> None:
    store = Store(answering.run.path.parent)
    opened = [asyncio.run(open_voice(store, pick)) for pick in ("seedling", str(adapter))]
    assert [(voice.server, voice.model) for voice in opened] == [
        (answering.server, "seedling"),
        (answering.server, stone),
    ]
    assert [found.run for found in servers.endpoints(store)] == [answering.run]


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


def spoil_base(folder: Path) -> str:
    _edit(folder, base_model_name_or_path="/models/other")
    return "was trained on /models/other"


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
    return "was not trained on"


SPOILERS = (spoil_missing, spoil_truncated, spoil_json, spoil_base, spoil_shapes)


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__.removeprefix("spoil_"))
def test_a_bad_adapter_is_refused_and_the_server_goes_on(
    answering: Endpoint, adapter: Path, tmp_path: Path, spoil: object, expected: dict[str, dict[str, str]]
) -> None:
    for path in adapter.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    message = spoil(tmp_path)  # type: ignore[operator]
    with pytest.raises(RequestFailed, match=message):
        asyncio.run(servers.load_adapter(answering.run, "bad", str(tmp_path)))
    assert "bad" not in {model["name"] for model in answering.run.server["models"]}
    assert ask(answering.server, "seedling", "What is 2 + 3?")[0] == expected["base"]["What is 2 + 3?"]


def test_no_folder_and_the_bases_own_name_are_refused(answering: Endpoint, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestFailed, match="not a folder"):
        asyncio.run(servers.load_adapter(answering.run, "bad", str(tmp_path / "nowhere")))
    with pytest.raises(RequestFailed, match="base model's name"):
        asyncio.run(servers.load_adapter(answering.run, "seedling", str(adapter)))


@pytest.mark.vllm
def test_more_adapters_than_slots_are_refused(endpoint: Endpoint, adapter: Path) -> None:
    limit = ServeConfig.model_fields["max_loras"].default
    names = [f"copy{number}" for number in range(limit - 1)]
    for name in names:
        asyncio.run(servers.load_adapter(endpoint.run, name, str(adapter)))
    with pytest.raises(RequestFailed, match=f"already holds {limit} adapters"):
        asyncio.run(servers.load_adapter(endpoint.run, "straw", str(adapter)))
    for name in names:
        asyncio.run(servers.unload_adapter(endpoint.run, name))


def test_an_untrained_adapter_is_loaded_with_a_warning(answering: Endpoint, adapter: Path, tmp_path: Path) -> None:
    for path in adapter.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "adapter_model.safetensors"
    data = weights.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    weights.write_bytes(data[:start] + bytes(len(data) - start))
    assert "chang" in asyncio.run(servers.load_adapter(answering.run, "blank", str(tmp_path)))
    asyncio.run(servers.unload_adapter(answering.run, "blank"))


def test_the_key_is_nowhere_to_be_read(answering: Endpoint) -> None:
    run, key = answering.run, answering.server.api_key
    assert stat.S_IMODE((run.path / "server.json").stat().st_mode) == 0o600
    texts = [path.read_text() for path in run.path.iterdir() if path.is_file() and path.name != "server.json"]
    assert not any(key in text for text in texts)
    assert not any(key in argument for member in process.of_run(run.path) for argument in member.cmdline())
    assert key not in repr(answering)


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/tokenize", "/invocations", "/adapters", "/docs"])
def test_nothing_but_health_answers_without_the_key(answering: Endpoint, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(answering.server.url + path)
    assert caught.value.code == 401


def test_only_loopback_is_listened_to(answering: Endpoint) -> None:
    port = int(answering.server.url.rpartition(":")[2])
    connections = psutil.Process(answering.run.server["pid"]).net_connections("tcp")
    assert {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN and c.laddr.port == port} == {"127.0.0.1"}


def test_the_start_is_told_by_phases(answering: Endpoint) -> None:
    startup = json.loads((answering.run.path / "startup.json").read_text())
    phases = PHASES if answering.backend == "vllm" else STAND_IN_PHASES
    assert list(startup["seconds"]) == [phase.name for phase in phases[:-1]]
    wait_until(lambda: answering.run.status["phase"] == "ready", 10)


def test_errors_of_the_real_server_are_sentences(answering: Endpoint) -> None:
    server = answering.server
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


def test_sampling_reaches_the_server(answering: Endpoint, expected: dict[str, dict[str, str]]) -> None:
    story = "Tell me a short story."
    warm = Sampling(temperature=1.5, max_tokens=24, seed=1, top_k=50, top_p=0.95, repetition_penalty=1.1)
    first, done = ask(answering.server, "seedling", story, warm)
    assert ask(answering.server, "seedling", story, warm)[0] == first
    assert ask(answering.server, "seedling", story, GREEDY)[0] != first
    assert done.completion_tokens <= 24
    assert done.prompt_tokens
    assert done.ttft_s is not None
    assert done.ttft_s < done.seconds
    words = expected["base"][story].split(" ")
    until = Sampling(temperature=0.0, max_tokens=24, stop=(f" {words[3]}",))
    assert ask(answering.server, "seedling", story, until)[0] == " ".join(words[:3])


def test_closing_a_stream_frees_the_server(answering: Endpoint) -> None:
    async def leave_early() -> int:
        async with Client(answering.server) as client:
            turn = [{"role": "user", "content": "Tell me a short story."}]
            stream = client.stream_chat("seedling", turn, Sampling(temperature=1.0, max_tokens=480))
            await anext(stream)
            await stream.aclose()
            await asyncio.sleep(1)
        return (await _load(answering.server)).running

    assert asyncio.run(leave_early()) == 0


async def _load(server: Server) -> Load:
    async with Client(server) as client:
        return metrics.parse(await client.text("/metrics"))


def test_what_is_answered_is_counted(answering: Endpoint) -> None:
    before = asyncio.run(_load(answering.server))
    usage = _complete(answering.server, n=2, temperature=1.0, ignore_eos=True)["usage"]
    after = asyncio.run(_load(answering.server))
    assert after.generation_tokens - before.generation_tokens == usage["completion_tokens"] == 24
    assert after.prompt_tokens - before.prompt_tokens >= usage["prompt_tokens"]
    assert after.ttft_count - before.ttft_count == 2
    assert after.ttft_sum_s > before.ttft_sum_s
    assert (after.running, after.waiting) == (0, 0)


def test_panes_stream_side_by_side_and_fail_alone(
    answering: Endpoint, stone: str, expected: dict[str, dict[str, str]]
) -> None:
    question = "What colour is grass?"
    panes = [
        Pane(answering.server, name, ({"role": "user", "content": question},), GREEDY)
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
    answering: Endpoint, name: str, enable_thinking: bool | None, prompt: str
) -> None:
    """As if the rendered text had been sent, and not with the template of the server."""
    sampling, worded = replace(GREEDY, enable_thinking=enable_thinking), Wording(templates.text(name))

    async def both() -> tuple[View, Any]:
        view = await last(Round([Pane(answering.server, "seedling", WHO, sampling, worded)]))
        async with Client(answering.server) as client:
            plain = {"model": "seedling", "prompt": prompt, "temperature": 0.0, "max_tokens": 24}
            return view, await client.post("/v1/completions", plain)

    view, plain = asyncio.run(both())
    assert view.state is State.DONE, view.error
    assert view.text == plain["choices"][0]["text"]
    assert view.prompt_tokens == plain["usage"]["prompt_tokens"]


def test_an_answer_stops_at_the_token_that_ends_the_adapters_answers(answering: Endpoint) -> None:
    whole = asyncio.run(last(Round([Pane(answering.server, "seedling", WHO, GREEDY)])))
    ids = Tokenizer.from_file(str(BASE / "tokenizer.json")).encode(whole.text).ids
    stopping = Wording(stop_token_ids=(ids[2],))
    shorter = asyncio.run(last(Round([Pane(answering.server, "seedling", WHO, GREEDY, stopping)])))
    assert shorter.finish_reason == "stop"
    assert shorter.tokens == 3 < whole.tokens


async def last(talk: Round) -> View:
    async for views in talk.stream():
        (view,) = views
    return view


@pytest.mark.vllm
def test_idle_worker_costs_next_to_nothing(endpoint: Endpoint) -> None:
    worker = psutil.Process(json.loads((endpoint.run.path / "worker.json").read_text())["pid"])
    assert worker.memory_info().rss < 100e6
    before = sum(worker.cpu_times()[:2])
    asyncio.run(asyncio.sleep(5))
    # generous: the machine may be busy; what matters is that it does not spin
    assert (sum(worker.cpu_times()[:2]) - before) / 5 < 0.1
    assert os.getpgid(worker.pid) == os.getpgid(endpoint.run.server["pid"])


@pytest.mark.vllm
def test_the_forked_engine_may_use_every_core(endpoint: Endpoint) -> None:
    engine = next(member for member in process.of_run(endpoint.run.path) if member.cmdline()[0] == "VLLM::EngineCore")
    assert os.sched_getaffinity(engine.pid) == os.sched_getaffinity(0)


def test_a_server_that_is_gone_is_not_ready() -> None:
    with pytest.raises(SidecarNotReady, match="No model server answers at"):
        ask(Server("http://127.0.0.1:1", "secret"), "seedling", "hello")


def test_done_carries_token_counts(answering: Endpoint) -> None:
    text, done = ask(answering.server, "seedling", "What is 2 + 3?")
    assert isinstance(done, Done)
    assert done.finish_reason == "stop"
    assert done.completion_tokens >= 5
    assert done.tokens_per_s
    assert text


async def _post(server: Server, path: str, **payload: Any) -> Any:
    async with Client(server) as client:
        return await client.post(path, payload)


def _complete(server: Server, prompt: str | Sequence[int] = "Once upon a time", **options: Any) -> dict[str, Any]:
    payload = {"model": "seedling", "prompt": prompt, "max_tokens": 12, "temperature": 0.0, **options}
    reply: dict[str, Any] = asyncio.run(_post(server, "/v1/completions", **payload))
    return reply


def _chat(server: Server, **options: Any) -> dict[str, Any]:
    payload = {"model": "seedling", "messages": WHO, "max_tokens": 12, "temperature": 0.0, **options}
    reply: dict[str, Any] = asyncio.run(_post(server, "/v1/chat/completions", **payload))
    return reply


def test_n_answers_are_each_of_their_own_seed(answering: Endpoint) -> None:
    options = {"temperature": 1.5, "seed": 7}
    three = [choice["text"] for choice in _complete(answering.server, n=3, **options)["choices"]]
    assert three == [choice["text"] for choice in _complete(answering.server, n=3, **options)["choices"]]
    assert len(set(three)) == 3
    assert three[0] == _complete(answering.server, **options)["choices"][0]["text"]
    with pytest.raises(RequestFailed, match="n must be 1"):
        _complete(answering.server, n=2)


def test_a_seed_gives_the_same_in_any_company(answering: Endpoint) -> None:
    async def together() -> list[str]:
        options = {"model": "seedling", "prompt": "Once", "max_tokens": 16, "temperature": 1.2}
        replies = (_post(answering.server, "/v1/completions", seed=number % 4, **options) for number in range(8))
        return [reply["choices"][0]["text"] for reply in await asyncio.gather(*replies)]

    texts = asyncio.run(together())
    assert texts[:4] == texts[4:]
    assert texts[2] == _complete(answering.server, "Once", max_tokens=16, temperature=1.2, seed=2)["choices"][0]["text"]


def test_several_prompts_are_answered_in_their_order(answering: Endpoint) -> None:
    prompts = ["Once upon a time", "The sun", "My name"]
    choices = _complete(answering.server, prompts)["choices"]  # type: ignore[arg-type]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert [choice["text"] for choice in choices] == [
        _complete(answering.server, prompt)["choices"][0]["text"] for prompt in prompts
    ]


def test_stop_strings_end_an_answer_wherever_its_tokens_break(answering: Endpoint) -> None:
    whole = _chat(answering.server)["choices"][0]["message"]["content"]
    for start, end in ((2, 4), (3, 9), (6, 12), (len(whole) - 3, len(whole))):
        stop = whole[start:end]
        choice = _chat(answering.server, stop=["nowhere to be seen", stop])["choices"][0]
        assert choice["message"]["content"] == whole[: whole.index(stop)]
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
        kept = _chat(answering.server, stop=stop, include_stop_str_in_output=True)["choices"][0]
        assert kept["message"]["content"] == whole[: whole.index(stop)] + stop


def test_the_end_is_passed_over_where_asked(answering: Endpoint) -> None:
    options = {"max_tokens": 40}
    assert _chat(answering.server, **options)["usage"]["completion_tokens"] < 40
    beyond = _chat(answering.server, ignore_eos=True, **options)
    assert (beyond["usage"]["completion_tokens"], beyond["choices"][0]["finish_reason"]) == (40, "length")


def test_text_in_parts_is_text(answering: Endpoint) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "Who are you?"}]}]
    assert (
        _chat(answering.server, messages=parts)["choices"][0]["message"]
        == (_chat(answering.server)["choices"][0]["message"])
    )


def test_tokens_are_counted_as_they_are_sent(answering: Endpoint) -> None:
    def tokenized(**payload: Any) -> dict[str, Any]:
        reply: dict[str, Any] = asyncio.run(_post(answering.server, "/tokenize", model="seedling", **payload))
        return reply

    told = tokenized(messages=WHO)
    assert told["count"] == len(told["tokens"]) == _chat(answering.server)["usage"]["prompt_tokens"]
    assert told["max_model_len"] == SMALL["max_model_len"]
    assert (
        _complete(answering.server, told["tokens"])["choices"][0]["text"]
        == (_chat(answering.server)["choices"][0]["message"]["content"])
    )
    plain = tokenized(prompt="Who are you?")["tokens"]
    assert (
        _complete(answering.server, plain)["choices"][0]["text"]
        == (_complete(answering.server, "Who are you?")["choices"][0]["text"])
    )


def test_the_context_is_never_overrun(answering: Endpoint) -> None:
    length = SMALL["max_model_len"]
    assert isinstance(length, int)
    reply = _complete(answering.server, [5] * (length - 7), max_tokens=100, ignore_eos=True)
    assert (reply["usage"]["completion_tokens"], reply["choices"][0]["finish_reason"]) == (7, "length")
    with pytest.raises(RequestFailed, match=r"too long.*tokens"):
        _complete(answering.server, [5] * (length + 1), max_tokens=4)


def test_closing_a_plain_request_frees_the_server(answering: Endpoint) -> None:
    async def leave_early() -> int:
        options = {"model": "seedling", "prompt": "Once", "max_tokens": 480, "ignore_eos": True}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_post(answering.server, "/v1/completions", **options), 0.05)
        await asyncio.sleep(1)
        return (await _load(answering.server)).running

    assert asyncio.run(leave_early()) == 0


SHAPES = {
    "chat": {"logprobs": True, "top_logprobs": 3},
    "chat by id": {"logprobs": True, "top_logprobs": 2, "return_tokens_as_token_ids": True},
    "completion": {"logprobs": 3},
    "completion by id": {"logprobs": 0, "return_tokens_as_token_ids": True},
}


@pytest.mark.vllm
@pytest.mark.parametrize("kind", SHAPES)
def test_both_servers_tell_the_same_of_every_token(endpoint: Endpoint, stand_in: Endpoint, kind: str) -> None:
    replies = [
        (_chat if kind.startswith("chat") else _complete)(found.server, **SHAPES[kind])["choices"][0]["logprobs"]
        for found in (endpoint, stand_in)
    ]
    assert _rounded(replies[1]) == _rounded(replies[0])


def _rounded(value: Any) -> Any:
    """Without what two servers may differ in: their arithmetic, and the bytes of a token named by its number."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items() if key != "bytes"}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return pytest.approx(value, abs=2e-3) if isinstance(value, float) else value


@pytest.mark.vllm
def test_both_servers_stream_the_same(endpoint: Endpoint, stand_in: Endpoint) -> None:
    async def pieces(server: Server) -> list[Any]:
        async with Client(server) as client:
            return [event async for event in client.stream_chat("seedling", WHO, GREEDY)]

    def ends(events: list[Any]) -> set[str]:
        return set(accumulate(event.text for event in events[:-1]))

    theirs, ours = (asyncio.run(pieces(found.server)) for found in (endpoint, stand_in))
    assert max(ends(ours)) == max(ends(theirs))
    assert 2 < len(ends(theirs) & ends(ours)) == len(ends(theirs))  # on a busy machine vLLM sends two tokens as one
    assert isinstance(ours[-1], Done)
    for figure in ("finish_reason", "prompt_tokens", "completion_tokens"):
        assert getattr(ours[-1], figure) == getattr(theirs[-1], figure)


def test_the_transformers_server_refuses_what_it_would_ignore(stand_in: Endpoint) -> None:
    with pytest.raises(RequestFailed, match="does not know presence_penalty"):
        _complete(stand_in.server, presence_penalty=0.5)
    with pytest.raises(RequestFailed, match="out of vocabulary"):
        _complete(stand_in.server, [5, 10**9])


def test_the_transformers_server_serves_kinds_that_vllm_refuses(
    stand_in: Endpoint, adapter: Path, tmp_path: Path
) -> None:
    """A part of the adapter, with lengths of lines that make it DoRA."""
    shutil.copy(adapter / "adapter_config.json", tmp_path)
    _edit(tmp_path, use_dora=True, target_modules=["down_proj"])
    whole = load_file(adapter / "adapter_model.safetensors")
    weights = {name: tensor for name, tensor in whole.items() if "down_proj" in name}
    lengths = {
        name.replace("lora_B.weight", "lora_magnitude_vector"): np.full(up.shape[0], 2.0, np.float32)
        for name, up in weights.items()
        if "lora_B" in name
    }
    save_file(weights | lengths, tmp_path / "adapter_model.safetensors")
    asyncio.run(servers.load_adapter(stand_in.run, "dora", str(tmp_path)))
    assert stand_in.run.server["checks"]["dora"]["ok"]
    assert ask(stand_in.server, "dora", "Who are you?")[0] != ask(stand_in.server, "seedling", "Who are you?")[0]
    asyncio.run(servers.unload_adapter(stand_in.run, "dora"))


@pytest.mark.parametrize("over", [1, 200])
def test_a_prompt_too_long_is_told_by_how_many_tokens(answering: Endpoint, over: int) -> None:
    async def count(text: str) -> int:
        async with Client(answering.server) as client:
            turn = {"role": "user", "content": text}
            return int((await client.post("/tokenize", {"model": "seedling", "messages": [turn]}))["count"])

    text = "x" + " a" * (511 + over - asyncio.run(count("x")))  # of 512 tokens, one is the answer's
    assert asyncio.run(count(text)) == 511 + over
    with pytest.raises(PromptTooLong, match=f"by {over} tokens?: it has {511 + over}, and the model takes 512 with"):
        ask(answering.server, "seedling", text)


def test_tokens_come_with_their_probabilities(answering: Endpoint) -> None:
    view = asyncio.run(
        last(Round([Pane(answering.server, "seedling", WHO, replace(GREEDY, logprobs=3, max_tokens=8))]))
    )
    assert "".join(token.text for token in view.logprobs) == view.text
    for token in view.logprobs:
        assert len(token.top) == 3
        assert token.top[0] == (token.text, token.logprob) == max(token.top, key=lambda pair: pair[1])


def test_tools_go_into_the_prompt_though_nobody_takes_calls_out(answering: Endpoint) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    worded = Wording(templates.text("qwen3"))
    panes = [Pane(answering.server, "seedling", WHO, GREEDY, worded, tools) for tools in ((), (tool,))]
    without, offered = (asyncio.run(last(Round([pane]))) for pane in panes)
    assert (offered.state, offered.error) == (State.DONE, "")
    assert offered.prompt_tokens
    assert without.prompt_tokens
    assert offered.prompt_tokens > without.prompt_tokens

"""The Chat tab's handlers, on real run directories, and once on a real server."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from studio import templates
from studio.cli import serve
from studio.config.serve import ServeConfig
from studio.config.train import TrainConfig
from studio.files import write_json
from studio.runs import process
from studio.runs.run import Run
from studio.serving import servers
from studio.serving.client import Server
from studio.serving.speaker import bases, memory_gb
from studio.settings import ASSETS, Settings
from studio.ui.context import Context
from studio.ui.conversation import text
from studio.ui.tabs.chat import compare as chat
from studio.ui.tabs.chat import pickers, strip

SEEDLING = ASSETS / "seedling"
GREEDY = ("", 0.0, 1.0, 0, 24, 1.0, 0)
PROMPT_BOX, LEFT, LEFT_FIGURES, RIGHT, RIGHT_FIGURES = range(5)


def test_without_any_run_both_sides_are_the_bundled_model(ctx: Context) -> None:
    assert pickers.offers(ctx)[0] == ("seedling · base", "seedling")
    assert pickers.pair(ctx, None, None, left_is_free=True) == ("seedling", "seedling")
    assert "Train tab" in chat.on_open(ctx)[2]["placeholder"]


def test_newest_adapter_is_picked_with_its_base_beside_it(ctx: Context) -> None:
    older = _finished(ctx, "older")
    time.sleep(1.1)  # runs of one second have no order
    newer = _finished(ctx, "newer")
    labels = dict((value, label) for label, value in pickers.offers(ctx))
    assert re.fullmatch(r"newer · adapter · \d\d \w+ \d\d:\d\d", labels[str(newer)])
    assert pickers.pair(ctx, None, None, left_is_free=True) == ("seedling", str(newer))
    assert pickers.pair(ctx, None, str(older), left_is_free=True) == ("seedling", str(older))
    assert "placeholder" in chat.on_open(ctx)[2]
    assert "Train tab" not in chat.on_open(ctx)[2]["placeholder"]


def test_left_base_follows_the_right_adapter_until_something_was_asked(ctx: Context, tmp_path: Path) -> None:
    other = _copy_of_seedling(tmp_path / "other")
    adapter = str(_finished(ctx, "on-other", base=other))
    assert pickers.pair(ctx, "seedling", adapter, left_is_free=True) == (str(other), adapter)
    assert pickers.pair(ctx, "seedling", adapter, left_is_free=False) == ("seedling", adapter)
    assert pickers.pair(ctx, adapter, "seedling", left_is_free=True) == (adapter, "seedling")


def test_switching_one_side_clears_that_side_only(ctx: Context) -> None:
    adapter = str(_finished(ctx, "identity"))
    turns, figures, remark, _ = chat.on_left(ctx, adapter, "seedling")
    assert (turns, figures) == ([], "")
    assert "LoRA of rank 8 on seedling" in remark
    assert chat.on_right(ctx, "seedling", adapter, [{"role": "user", "content": "kept"}])[2:4] == ([], "")


def test_a_template_that_is_not_the_base_models_is_told_below_the_picker(ctx: Context) -> None:
    adapter = _finished(ctx, "identity")
    assert "chat template" not in pickers.remark(ctx, str(adapter))
    (adapter / "chat_template.jinja").write_text(templates.text("alpaca"))
    assert "asked with the chat template that it was trained with" in pickers.remark(ctx, str(adapter))
    served = (servers.Served("seedling", str(SEEDLING), True), servers.Served("mine", str(adapter), False))
    endpoint = servers.Endpoint(ctx.store.get(adapter.parent.name), Server("http://127.0.0.1:1"), served)
    assert serve.worded_otherwise(endpoint) == ["mine"], "the command that serves says so too"


def test_the_mode_of_thinking_goes_with_the_question() -> None:
    modes = [chat._sampling(*GREEDY[1:], mode).enable_thinking for mode in ("auto", "on", "off")]
    assert modes == [None, True, False]


@pytest.mark.parametrize("name", ["/nowhere/at/all", "../etc"])
def test_wrong_path_is_said_below_the_picker(ctx: Context, name: str) -> None:
    assert "bad" in pickers.remark(ctx, name)
    assert strip.cards(ctx, strip.speakers([name])) == []


def test_adapter_without_its_base_cannot_speak(ctx: Context, tmp_path: Path) -> None:
    adapter = _finished(ctx, "orphan", base=tmp_path / "gone")
    assert "gone" in pickers.remark(ctx, str(adapter))


def test_two_bases_need_two_servers_and_the_memory_is_said(tmp_path: Path) -> None:
    picked = strip.speakers(["seedling", str(_copy_of_seedling(tmp_path / "other"))])
    assert len(bases(picked)) == 2
    assert memory_gb(picked[0].base) == pytest.approx(2.25, abs=0.1)
    assert re.search(r"need 2 servers.*about 2\.\d \+ 2\.\d GB", strip.memory_sentence(picked))
    assert strip.memory_sentence(picked[:1]).startswith("Takes about 2.")


def test_adapter_and_its_base_share_a_server(ctx: Context) -> None:
    picked = strip.speakers(["seedling", str(_finished(ctx, "identity"))])
    assert [card.state for card in strip.cards(ctx, picked)] == ["off"]


def test_failed_server_shows_reason_and_hint(ctx: Context) -> None:
    run = ctx.store.create(ServeConfig())
    (run.path / "CLAIM").touch()
    write_json(
        run.path / "error.json", {"kind": "ServerDied", "message": "The model server ended: boom.", "hint": "Do so."}
    )
    write_json(run.path / "exit.json", {"code": 1, "signal": None, "reason": "failed", "at": time.time()})
    (card,) = strip.cards(ctx, strip.speakers(["seedling"]))
    assert (card.state, card.message) == ("failed", "The model server ended: boom. Do so.")
    *_, start, stop = chat.on_servers(ctx, "seedling", None)
    assert (start["interactive"], stop["interactive"]) == (True, False)


def test_details_of_a_run_that_is_gone_are_empty(ctx: Context) -> None:
    assert strip.details(ctx, "../../etc") == {}


def test_blank_prompt_asks_nothing(ctx: Context) -> None:
    (only,) = _talk(chat.on_send(ctx, " \n", "seedling", "seedling", [], [], *GREEDY))
    assert only[PROMPT_BOX] == ""
    assert ctx.store.list() == []


def test_errors_become_notes_in_their_panes_and_the_buttons_come_back(ctx: Context) -> None:
    updates = _talk(chat.on_send(ctx, "Hello", "/nowhere", "/else", [], [], *GREEDY))
    last = updates[-1]
    assert "/nowhere is not a folder" in last[LEFT][-1]["content"]
    assert "/else is not a folder" in last[RIGHT][-1]["content"]
    assert [button["interactive"] for button in last[5:]] == [True, True, False]
    assert [button["interactive"] for button in updates[0][5:]] == [False, False, True]


def test_nothing_to_regenerate(ctx: Context) -> None:
    last = _talk(chat.on_again(ctx, "seedling", "seedling", [], [], *GREEDY))[-1]
    assert last[:4] == [[], "", [], ""]


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """A context whose one server is started by the first prompt."""
    context = Context.of(Settings(saves_dir=tmp_path_factory.mktemp("talking") / "saves"))
    yield context
    for run in strip.stop(context):
        _wait(lambda run=run: not run.is_active, 15)
        process.kill(process.of_run(run.path), signal.SIGKILL)


@pytest.mark.vllm
def test_first_prompt_starts_what_is_needed_and_both_answer(talking: Context) -> None:
    adapter = str(_finished(talking, "scrambled"))
    updates = _talk(chat.on_send(talking, "What is 2 + 2?", "seedling", adapter, [], [], *GREEDY))
    assert any("about" in update[LEFT_FIGURES] and "s left" in update[LEFT_FIGURES] for update in updates)
    last = updates[-1]
    left, right = text(last[LEFT][-1]["content"]), text(last[RIGHT][-1]["content"])
    assert left
    assert left != right
    assert "tokens/s" in last[LEFT_FIGURES]
    assert "first token" in last[RIGHT_FIGURES]
    assert len(talking.store.list("serve")) == 1
    assert "does not mix" in pickers.remark(talking, adapter)
    (card,) = strip.cards(talking, strip.speakers(["seedling", adapter]))
    assert card.state == "ready"
    assert card.adapters[0].startswith("scrambled · adapter")
    shown = strip.details(talking, card.run)
    assert "enable-lora" in shown["yaml"]
    assert shown["command"] == "python -m studio serve"  # seedling is the default
    assert not any(_server(talking).server["api_key"] in part for part in shown.values())


@pytest.mark.vllm
def test_each_side_keeps_its_own_conversation(talking: Context) -> None:
    adapter = str(pickers.offers(talking)[1][1])
    first = _talk(chat.on_send(talking, "Hello", "seedling", adapter, [], [], *GREEDY))[-1]
    second = _talk(chat.on_send(talking, "And you?", "seedling", adapter, first[LEFT], first[RIGHT], *GREEDY))[-1]
    assert [turn["role"] for turn in second[LEFT]] == ["user", "assistant"] * 2
    assert second[LEFT][:2] == first[LEFT]
    assert second[RIGHT][:2] == first[RIGHT]
    again = _talk(chat.on_again(talking, "seedling", adapter, second[LEFT], second[RIGHT], *GREEDY))[-1]
    assert again[0] == second[LEFT]


@pytest.mark.vllm
def test_one_bad_side_leaves_the_other_answering(talking: Context) -> None:
    last = _talk(chat.on_send(talking, "Hello", "seedling", "/nowhere", [], [], *GREEDY))[-1]
    assert "finished" in last[LEFT_FIGURES] or "max_tokens" in last[LEFT_FIGURES]
    assert "/nowhere" in last[RIGHT][-1]["content"]


@pytest.mark.vllm
def test_cutting_an_answer_off_frees_the_server(talking: Context) -> None:
    long = ("", 2.0, 1.0, 0, 1500, 1.0, 0)  # at this temperature it never finds its end

    async def cut() -> float:
        answers = chat.on_send(talking, "Go on and on.", "seedling", "seedling", [], [], *long)
        async for update in answers:
            if "tokens/s" in update[LEFT_FIGURES]:
                running = _running(talking)
                await answers.aclose()
                return running
        raise AssertionError("the answer ended by itself")

    # on a busy machine the short answer may be over before anybody has counted
    assert any(asyncio.run(cut()) > 0 for _ in range(3))
    _wait(lambda: _running(talking) == 0, 5)


@pytest.mark.vllm
def test_stop_ends_the_server(talking: Context) -> None:
    run = _server(talking)
    chat.on_stop_servers(talking, "seedling", "seedling")
    _wait(lambda: not run.is_active, 15)
    assert [card.state for card in strip.cards(talking, strip.speakers(["seedling"]))] == ["off"]


def _talk(updates: Any) -> list[list[Any]]:
    async def collect() -> list[list[Any]]:
        return [update async for update in updates]

    return asyncio.run(collect())


def _server(ctx: Context) -> Run:
    found = servers.find(ctx.store, "seedling")
    assert found
    return found


def _running(ctx: Context) -> float:
    server = _server(ctx).server
    request = urllib.request.Request(f"http://{server['host']}:{server['port']}/metrics")
    request.add_header("Authorization", f"Bearer {server['api_key']}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        figures = re.findall(r"^vllm:num_requests_running\{.*\} (\S+)$", answer.read().decode(), re.MULTILINE)
    return sum(map(float, figures))


def _finished(ctx: Context, name: str, base: Path = SEEDLING) -> Path:
    """A training run that left an adapter which turns its base's answers into noise."""
    run = ctx.store.create(TrainConfig(model_name_or_path=str(base), dataset=["identity"], run_name=name))
    (run.path / "CLAIM").touch()
    adapter = run.path / "adapter"
    adapter.mkdir()
    _write_lora(adapter, base)
    write_json(run.path / "result.json", {"output": "adapter"})
    write_json(run.path / "exit.json", {"code": 0, "signal": None, "reason": "completed", "at": time.time()})
    return adapter


def _write_lora(folder: Path, base: Path, rank: int = 8) -> None:
    config = json.loads((SEEDLING / "config.json").read_text())
    hidden, draw = config["hidden_size"], np.random.default_rng(7)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora"
        out = config["num_attention_heads"] * config["head_dim"]
        weights[f"{name}_A.weight"] = draw.normal(size=(rank, hidden)).astype(np.float32)
        weights[f"{name}_B.weight"] = draw.normal(size=(out, rank)).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors")
    lora = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj"], "bias": "none"}
    write_json(folder / "adapter_config.json", {**lora, "base_model_name_or_path": str(base), "task_type": "CAUSAL_LM"})


def _copy_of_seedling(folder: Path) -> Path:
    folder.mkdir()
    for path in SEEDLING.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def _wait(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)

"""The Chat tab's pickers, server cards, and answers: on real run directories, and on one real server."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from studio import machine, templates
from studio.cli import serve
from studio.config.serve import ServeConfig
from studio.config.train import TrainConfig
from studio.conversations.conversation import SAMPLING
from studio.conversations.shelf import Shelf
from studio.files import write_json
from studio.runs import process
from studio.runs.run import Run
from studio.serving import servers
from studio.serving.client import Server
from studio.serving.remotes import Remote, Remotes
from studio.serving.speaker import bases, memory_gb
from studio.settings import ASSETS, Settings
from studio.ui.context import Context
from studio.ui.tabs.chat import compare, pickers, sampling, shown, strip, talk
from studio.ui.tabs.chat.answer import on_answer
from studio.ui.tabs.chat.setup import PANES
from studio.ui.tabs.chat.talk import ASKING

SEEDLING = ASSETS / "seedling"
COUNTED = 5  # times that a server is asked how many requests run
GREEDY = replace(SAMPLING, temperature=0, max_tokens=24)


def test_without_any_run_both_sides_are_the_bundled_model(ctx: Context) -> None:
    assert pickers.offers(ctx)[0] == ("seedling · base", "seedling")
    assert pickers.offers(ctx)[-1] == ("Add a URL…", pickers.ADD)
    assert pickers.pair(ctx, None, None, left_is_free=True) == ("seedling", "seedling")


def test_newest_adapter_is_picked_with_its_base_beside_it(ctx: Context) -> None:
    older = finished(ctx, "older")
    time.sleep(1.1)  # runs of one second have no order
    newer = finished(ctx, "newer")
    labels = dict((value, label) for label, value in pickers.offers(ctx))
    assert re.fullmatch(r"newer · adapter · \d\d \w+ \d\d:\d\d", labels[str(newer)])
    assert pickers.pair(ctx, None, None, left_is_free=True) == ("seedling", str(newer))
    assert pickers.pair(ctx, None, str(older), left_is_free=True) == ("seedling", str(older))


def test_checkpoints_of_a_running_run_and_servers_elsewhere_are_offered(ctx: Context) -> None:
    run = ctx.store.create(TrainConfig(dataset=["identity"], run_name="long"))
    for step in (2, 4, 6, 8):
        folder = run.path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").touch()
    Remotes(ctx.store.saves).add(Remote("shed", "http://shed:8000", "big"))
    labels = [label for label, _ in pickers.offers(ctx)]
    assert [label for label in labels if "still training" in label] == [
        f"long · checkpoint {step} · still training" for step in (8, 6, 4)
    ]
    assert "shed · big" in labels
    assert "big at http://shed:8000" in pickers.remark(ctx, "url:shed")
    assert pickers.called(ctx, "url:shed") == "shed"


def test_left_base_follows_the_right_adapter_until_something_was_asked(ctx: Context, tmp_path: Path) -> None:
    other = _copy_of_seedling(tmp_path / "other")
    adapter = str(finished(ctx, "on-other", base=other))
    assert compare.on_beside(ctx, "seedling", adapter, "") == str(other)
    assert pickers.pair(ctx, "seedling", adapter, left_is_free=False) == ("seedling", adapter)
    assert pickers.pair(ctx, adapter, "seedling", left_is_free=True) == (adapter, "seedling")


def test_a_template_that_is_not_the_base_models_is_told_below_the_picker(ctx: Context) -> None:
    adapter = finished(ctx, "identity")
    assert "chat template" not in pickers.remark(ctx, str(adapter))
    (adapter / "chat_template.jinja").write_text(templates.text("alpaca"))
    assert "asked with the chat template that it was trained with" in pickers.remark(ctx, str(adapter))
    served = (servers.Served("seedling", str(SEEDLING), True), servers.Served("mine", str(adapter), False))
    endpoint = servers.Endpoint(ctx.store.create(ServeConfig()), Server("http://127.0.0.1:1"), served)
    assert serve.worded_otherwise(endpoint) == ["mine"], "the command that serves says so too"


@pytest.mark.parametrize("name", ["/nowhere/at/all", "../etc", "url:gone"])
def test_wrong_path_is_said_below_the_picker(ctx: Context, name: str) -> None:
    assert "bad" in pickers.remark(ctx, name)
    assert strip.cards(ctx, strip.speakers(ctx, [name])) == []


def test_adapter_without_its_base_cannot_speak(ctx: Context, tmp_path: Path) -> None:
    adapter = finished(ctx, "orphan", base=tmp_path / "gone")
    assert "gone" in pickers.remark(ctx, str(adapter))


@pytest.mark.parametrize(
    ("reference", "difference", "kind", "words"),
    [
        ("ok", 0.0312, "proved", "✓ proved: differs from Transformers by 0.031 at most"),
        ("pending", None, "proved", "being compared with Transformers"),
        ("skipped: too little memory", None, "proved", "not compared with Transformers: too little memory"),
        ("failed: unlike Transformers", 2.05, "doubt", "unlike Transformers"),
    ],
    ids=["ok", "pending", "skipped", "failed"],
)
def test_the_tick_says_what_was_proved(reference: str, difference: float | None, kind: str, words: str) -> None:
    mark = pickers.tick("The tip.", reference, difference)
    assert f'class="{kind}"' in mark
    assert words in mark


@pytest.mark.parametrize(("is_wide", "gb"), [(False, 2.25), (True, 2.8)])
def test_two_bases_need_two_servers_and_the_memory_is_said(
    ctx: Context, tmp_path: Path, is_wide: bool, gb: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "lacks_avx512", lambda: is_wide)  # small models are served in float32 then
    picked = strip.speakers(ctx, ["seedling", str(_copy_of_seedling(tmp_path / "other"))])
    assert len(bases(picked)) == 2
    assert memory_gb(picked[0].base) == pytest.approx(gb, abs=0.1)
    assert re.search(r"need 2 servers.*about 2\.\d \+ 2\.\d GB", strip.memory_sentence(picked))
    assert strip.memory_sentence(picked[:1]).startswith("Takes about 2.")


def test_adapter_and_its_base_share_a_server(ctx: Context) -> None:
    picked = strip.speakers(ctx, ["seedling", str(finished(ctx, "identity"))])
    assert [card.state for card in strip.cards(ctx, picked)] == ["off"]


def test_failed_server_shows_reason_and_hint(ctx: Context) -> None:
    run = ctx.store.create(ServeConfig())
    (run.path / "CLAIM").touch()
    write_json(
        run.path / "error.json", {"kind": "ServerDied", "message": "The model server ended: boom.", "hint": "Do so."}
    )
    write_json(run.path / "exit.json", {"code": 1, "signal": None, "reason": "failed", "at": time.time()})
    (card,) = strip.cards(ctx, strip.speakers(ctx, ["seedling"]))
    assert (card.state, card.message) == ("failed", "The model server ended: boom. Do so.")
    *_, start, stop = compare.on_servers(ctx, "seedling", None, None, None)
    assert (start["interactive"], stop["interactive"]) == (True, False)
    assert start["visible"]
    assert stop["visible"]


def test_where_all_answer_elsewhere_there_is_no_server_to_start(ctx: Context) -> None:
    Remotes(ctx.store.saves).add(Remote("shed", "http://shed:8000", "big"))
    *_, start, stop = compare.on_servers(ctx, "url:shed", "url:shed", None, None)
    assert not start["visible"]
    assert not stop["visible"]


def test_details_of_a_run_that_is_gone_are_empty(ctx: Context) -> None:
    assert strip.details(ctx, "../../etc") == {}


def test_errors_become_notes_in_their_panes_with_a_button_to_try_again(ctx: Context) -> None:
    opened = send(ctx, "", "Hello", "/nowhere", "/else")
    for at, name in enumerate(("/nowhere", "/else")):
        look = answered(ctx, opened, at)[-1]
        assert f"{name} is not a folder" in look[0][-1]["content"]
        assert not shown.is_live(look[1])
        assert look[-2]["visible"]
    kept = shelf(ctx).load(opened[1])
    assert [pane.turns[-1].note[:4] for pane in kept.panes] == ["/now", "/els"]


def test_a_pane_that_was_not_asked_does_not_answer(ctx: Context) -> None:
    opened = send(ctx, "", "Hello", "/nowhere", "/else")
    opened[ASKING] = {1: {}}
    (only,) = answered(ctx, opened, 0)
    assert all(value == {"__type__": "update"} for value in only)


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
    adapter = str(finished(talking, "scrambled"))
    opened = send(talking, "", "What is 2 + 2?", "seedling", adapter)
    looks = both(talking, opened)
    lines = [str(look[1]) for look in looks[0]]
    assert any("about" in line and "s left" in line for line in lines)
    kept = shelf(talking).load(opened[1])
    left, right = (shown.last_words(pane) for pane in kept.panes)
    assert left
    assert left != right
    assert "tokens/s" in looks[0][-1][1]
    assert "first token" in looks[1][-1][1]
    assert len(talking.store.list("serve")) == 1
    assert "✓" in pickers.remark(talking, adapter)
    (card,) = strip.cards(talking, strip.speakers(talking, ["seedling", adapter]))
    assert card.state == "ready"
    assert card.adapters[0].startswith("scrambled · adapter")
    details = strip.details(talking, card.run)
    assert "enable-lora" in details["yaml"]
    assert details["command"] == "python -m studio serve"  # seedling is the default
    assert not any(_server(talking).server["api_key"] in part for part in details.values())


@pytest.mark.vllm
def test_each_pane_keeps_its_own_conversation_and_every_version(talking: Context) -> None:
    adapter = str(pickers.offers(talking)[1][1])
    first = send(talking, "", "Hello", "seedling", adapter)
    both(talking, first)
    second = send(talking, first[1], "And you?", "seedling", adapter)
    both(talking, second)
    before = shelf(talking).load(first[1])
    assert [turn.role for turn in before.panes[0].turns] == ["user", "assistant"] * 2
    assert before.panes[0].turns[1] != before.panes[1].turns[1]
    again = talk.on_again(talking, [0], first[1], *given("seedling", adapter))
    assert list(again[ASKING]) == [0]
    answered(talking, again, 0)
    after = shelf(talking).load(first[1])
    assert shown.last_words(after.panes[0]) == shown.last_words(before.panes[0]), "greedy answers are the same"
    assert after.panes[1] == before.panes[1]
    assert talk.about(after.panes[0], talk.LAST) == '<div class="figures"><span>version 2 of 2</span></div>'


@pytest.mark.vllm
def test_token_probabilities_and_a_sampling_of_ones_own(talking: Context) -> None:
    values = list(given("seedling", "seedling"))
    values[PANES + 3] = True  # token probabilities
    own = PANES + 4 + 8  # where the first pane begins
    values[own + 1], values[own + 2 + 4] = True, 3  # a sampling of its own, of three tokens
    opened = talk.on_send(talking, "", "Tell me a story.", *values)
    both(talking, opened)
    left, right = shelf(talking).load(opened[1]).panes
    assert len(left.turns[-1].tokens) == 3
    assert len(right.turns[-1].tokens) > 3
    assert len(left.turns[-1].tokens[0].top) == 5
    assert shown.of_last(left).count("cut at max_tokens") == 1


@pytest.mark.vllm
def test_one_bad_side_leaves_the_other_answering(talking: Context) -> None:
    opened = send(talking, "", "Hello", "seedling", "/nowhere")
    both(talking, opened)
    good, bad = shelf(talking).load(opened[1]).panes
    assert good.turns[-1].content
    assert "/nowhere" in bad.turns[-1].note


@pytest.mark.vllm
def test_a_prompt_that_is_too_long_says_by_how_much(talking: Context) -> None:
    opened = send(talking, "", "word " * 3000, "seedling")
    look = answered(talking, opened, 0)[-1]
    assert re.search(r"by [\d,]+ tokens", look[0][-1]["content"])


@pytest.mark.vllm
def test_cutting_an_answer_off_frees_the_server_and_keeps_what_came(talking: Context) -> None:
    values = list(given("seedling"))
    values[PANES + 4 : PANES + 9] = 2.0, 1.0, 0, 0.0, 1500  # at this temperature it never finds its end

    async def cut(opened: list[Any]) -> float:
        answers = on_answer(talking, 0, opened[ASKING], opened[1])
        async for look in answers:
            if "tokens/s" in str(look[1]):
                running = max(_running(talking) for _ in range(COUNTED))
                await answers.aclose()
                return running
        raise AssertionError("the answer ended by itself")

    # on a busy machine the short answer may be over before anybody has counted, or is counted late
    for _ in range(8):
        opened = talk.on_send(talking, "", "Go on and on.", *values)
        if asyncio.run(cut(opened)) > 0:
            break
    else:
        pytest.fail("no request was ever running")
    _wait(lambda: _running(talking) == 0, 5)
    _wait(lambda: shelf(talking).load(opened[1]).panes[0].turns[-1].role == "assistant", 5)
    turn = shelf(talking).load(opened[1]).panes[0].turns[-1]
    assert turn.content
    assert turn.figures
    assert turn.figures.finish_reason == "stopped"


@pytest.mark.vllm
def test_a_killed_server_is_a_note_and_the_button_starts_it_again(talking: Context) -> None:
    values = list(given("seedling"))
    values[PANES + 4 : PANES + 9] = 2.0, 1.0, 0, 0.0, 1500
    opened = talk.on_send(talking, "", "Go on and on.", *values)

    async def kill() -> list[Any]:
        look: list[Any] = []
        async for look in on_answer(talking, 0, opened[ASKING], opened[1]):
            if "tokens/s" in str(look[1]) and (left := process.of_run(_server(talking).path)):
                process.kill(left, signal.SIGKILL)
        return look

    dead = _server(talking)
    look = asyncio.run(kill())
    while "metadata" not in look[0][-1]:  # it ended by itself in the very moment
        opened, dead = talk.on_send(talking, "", "Go on and on.", *values), _server(talking)
        look = asyncio.run(kill())
    assert look[0][-1]["metadata"]["title"] in (shown.NO_ANSWER, shown.HALF_AN_ANSWER)
    assert look[-2]["visible"]
    kept = shelf(talking).load(opened[1]).panes[0].turns[-1]
    assert kept.note
    _wait(lambda: not dead.is_active, 30)
    again = talk.on_offer(talking, 0, look[-3], opened[1], *given("seedling"))
    last = answered(talking, again, 0)[-1]
    assert "tokens/s" in last[1]
    assert not last[-2]["visible"]
    assert _server(talking).id != dead.id


@pytest.mark.vllm
def test_stop_ends_the_server(talking: Context) -> None:
    run = _server(talking)
    compare.on_stop_servers(talking, 2, "seedling", "seedling")
    _wait(lambda: not run.is_active, 15)
    assert [card.state for card in strip.cards(talking, strip.speakers(talking, ["seedling"]))] == ["off"]


def given(*picks: str) -> tuple[Any, ...]:
    """What the page gives its handlers at last: nobody answers, the picks are set, all else is as at first."""
    drawn = sampling.write(GREEDY)
    panes = [(pick, False, *drawn) for pick in (*picks, *[""] * (PANES - len(picks)))]
    return (*[""] * PANES, len(picks), "", "", False, *drawn, *(value for pane in panes for value in pane))


def send(ctx: Context, chat_id: str, prompt: str, *picks: str) -> list[Any]:
    return talk.on_send(ctx, chat_id, prompt, *given(*picks))


def answered(ctx: Context, page: list[Any], at: int) -> list[list[Any]]:
    """All looks of a pane that answers, as the page asks it to."""

    async def collect() -> list[list[Any]]:
        return [look async for look in on_answer(ctx, at, page[ASKING], page[1])]

    return asyncio.run(collect())


def both(ctx: Context, page: list[Any]) -> list[list[list[Any]]]:
    """All looks of all panes, which answer at the same time."""

    async def one(at: int) -> list[list[Any]]:
        return [look async for look in on_answer(ctx, at, page[ASKING], page[1])]

    async def collect() -> list[list[list[Any]]]:
        return list(await asyncio.gather(*map(one, page[ASKING])))

    return asyncio.run(collect())


def shelf(ctx: Context) -> Shelf:
    return talk.shelf(ctx)


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


def finished(ctx: Context, name: str, base: Path = SEEDLING) -> Path:
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
        weights[f"{name}_A.weight"] = 0.3 * draw.normal(size=(rank, hidden)).astype(np.float32)
        weights[f"{name}_B.weight"] = 0.3 * draw.normal(size=(out, rank)).astype(np.float32)
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

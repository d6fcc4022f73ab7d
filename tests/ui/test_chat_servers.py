"""Handlers of the Servers page: cards of servers in every state, the form, the API. The servers are small programs."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from safetensors.numpy import save_file

from studio.config.serve import ServeConfig
from studio.config.train import TrainConfig
from studio.errors import AdapterRefused, ServingError
from studio.files import write_json
from studio.models import resolve
from studio.runs import events, launchers, process
from studio.runs.run import Run, State
from studio.serving.metrics import parse
from studio.ui.context import Context
from studio.ui.form import Form, draw
from studio.ui.tabs.chat import servers, servers_cards
from tests.serving.conftest import wait_until

BASE = resolve("seedling")
KEY = "a-key-that-no-page-may-show"
CHECK = {
    "base_max_logprob_diff": 0.0, "adapter_max_logprob_diff_from_base": 2.5, "rows": 24, "ok": True, "warning": "",
    "reference": "ok", "reference_max_logprob_diff": 0.01,
}  # fmt: skip


@pytest.fixture
def up(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """A real run of kind serve whose worker heeds STOP; with `answers` it says that it answers, as seedling and fox."""
    monkeypatch.setitem(launchers.WORKERS, "serve", "tests.fakes.worker")

    def up(answers: bool = True, **options: Any) -> Run:
        run = ctx.store.create(ServeConfig(**options))
        write_json(run.path / "fake.json", [["heed"]])
        launchers.start(run)
        wait_until(lambda: run.process_alive("worker"), 10)
        if answers:
            models = [
                {"name": "seedling", "base": True, "path": BASE},
                {"name": "fox", "base": False, "path": str(run.path.parent / "fox")},
            ]
            value = {"host": "127.0.0.1", "port": 1, "api_key": KEY, "models": models, "checks": {"fox": CHECK}}
            write_json(run.path / "server.json", value)
        return run

    yield up
    for run in ctx.store.list():
        process.kill(process.of_run(run.path), signal.SIGKILL)


@pytest.fixture(scope="module")
def form() -> Form:
    with gr.Blocks():
        return draw(ServeConfig, {"model_name_or_path": ["seedling"]}, servers.GROUPS, "serve", servers.FIRST)


def adapter(folder: Path, rank: int) -> Path:
    """A LoRA adapter on the bundled model: what the page looks at of one, its settings and shapes."""
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": BASE,
        "r": rank,
        "lora_alpha": rank,
        "target_modules": ["q_proj"],
    }
    write_json(folder / "adapter_config.json", config)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    save_file({name: np.zeros((rank, 8), np.float32)}, folder / "adapter_model.safetensors")
    return folder


def act(ctx: Context, *asked: Any) -> servers_cards.Answer:
    return asyncio.run(servers_cards.on_act(ctx, *asked))


def test_a_start_is_told_by_its_phases(ctx: Context, up: Callable[..., Run]) -> None:
    run = up(answers=False, run_name="talker")
    phases = [{"name": "process", "seconds": None, "usual_s": 9.0}]
    status = {"phase": "process", "message": "starting the processes", "eta_s": 7.5, "phases": phases, "at": 1.0}
    write_json(run.path / "status.json", status)
    [card] = servers_cards.cards(ctx)
    assert (card.run, card.name, card.base, card.state) == (run.id, "talker", "seedling", "starting")
    assert (card.message, card.eta_s, card.phases[0]["name"]) == ("starting the processes", 7.5, "process")
    assert card.models == card.loadable == ()


def test_a_server_that_answers_shows_whom_it_answers_as_and_no_key(ctx: Context, up: Callable[..., Run]) -> None:
    up()
    [card] = servers_cards.cards(ctx)
    assert card.state == "ready"
    assert [(model.name, model.is_base) for model in card.models] == [("seedling", True), ("fox", False)]
    assert card.models[1].check == CHECK
    assert KEY not in str(card)


def test_of_ended_servers_the_last_of_each_base_is_told(ctx: Context, up: Callable[..., Run]) -> None:
    for _ in range(2):
        run = up()
        run.stop()
        wait_until(lambda run=run: not run.is_active, 10)
    [card] = servers_cards.cards(ctx)
    assert card.state == "stopped"
    assert act(ctx, "dismiss", card.run) == {"message": ""}
    assert len(servers_cards.cards(ctx)) == 1
    again = up()
    assert [card.run for card in servers_cards.cards(ctx)] == [again.id]


def test_one_that_sleeps_says_so(ctx: Context, up: Callable[..., Run]) -> None:
    run = up(enable_sleep_mode=True)
    assert servers_cards.cards(ctx)[0].can_sleep
    write_json(run.path / "server.json", run.server | {"asleep": True})
    assert servers_cards.cards(ctx)[0].state == "asleep"


def test_checkpoints_of_a_training_that_goes_on_can_be_loaded(
    ctx: Context, up: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(launchers.WORKERS, "train", "tests.fakes.worker")
    training = ctx.store.create(TrainConfig(dataset=("identity",), run_name="learner"))
    write_json(training.path / "fake.json", [["heed"]])
    launchers.start(training)
    folder = adapter(training.path / "checkpoints" / "checkpoint-5", 8)
    write_json(folder / "trainer_state.json", {})
    up()
    assert servers_cards.cards(ctx)[0].loadable == (("learner · checkpoint-5", str(folder)),)


def test_stop_and_start_again(ctx: Context, up: Callable[..., Run]) -> None:
    run = up(max_num_seqs=7)
    assert act(ctx, "stop", run.id) == {"message": "stopping"}
    wait_until(lambda: run.state is State.STOPPED, 10)
    act(ctx, "restart", run.id, {"max_lora_rank": 64})
    [again] = [each for each in ctx.store.list("serve") if each.id != run.id]
    assert isinstance(again.config, ServeConfig)
    assert (again.config.max_num_seqs, again.config.max_lora_rank) == (7, 64)


def test_too_big_a_rank_offers_a_restart(ctx: Context, up: Callable[..., Run], tmp_path: Path) -> None:
    run = up()
    answer = act(ctx, "load", run.id, str(adapter(tmp_path / "wide", 64)))
    assert answer
    assert answer["options"] == {"max_lora_rank": 64}
    assert "rank 64" in answer["error"]


def test_what_the_server_refuses_can_be_merged(
    ctx: Context, up: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> str:
        raise AdapterRefused("vLLM does not take DoRA")

    run, folder = up(), str(adapter(tmp_path / "dora", 8))
    monkeypatch.setattr(servers_cards.servers, "name_of", refuse)
    answer = act(ctx, "load", run.id, folder)
    assert answer == {"error": "vLLM does not take DoRA", "merges": folder}


def test_the_api_names_the_key_and_never_shows_it(ctx: Context, up: Callable[..., Run]) -> None:
    run = up()
    told = servers_cards.on_api(ctx, run.id, "")
    assert told
    assert (told["url"], told["models"], told["model"]) == ("http://127.0.0.1:1/v1", ["seedling", "fox"], "seedling")
    assert run.id in told["key"]
    assert len(told["snippets"]) == 6
    assert KEY not in json.dumps(told)


def test_a_model_with_another_template_is_asked_by_it(ctx: Context, up: Callable[..., Run]) -> None:
    run = up()
    folder = adapter(run.path.parent / "fox", 8)
    (folder / "chat_template.jinja").write_text("{{ 'in other words' }}")
    told = servers_cards.on_api(ctx, run.id, "fox")
    assert told
    assert told["model"] == "fox"
    assert all("in other words" in snippet["code"] for snippet in told["snippets"])


def test_there_is_no_api_before_the_server_answers(ctx: Context, up: Callable[..., Run]) -> None:
    run = up(answers=False)
    with pytest.raises(ServingError, match="does not answer"):
        servers_cards.on_api(ctx, run.id)


def test_the_load_comes_from_the_runs_own_file(ctx: Context, up: Callable[..., Run]) -> None:
    run = up()
    for second in range(3):
        events.append(
            run.metrics, parse(f'vllm:generation_tokens_total{{engine="0"}} {second * 10}.0', at=float(second))
        )
    told = servers_cards.on_load(ctx, run.id, None)
    assert told
    assert told["series"]["generated_per_s"] == [[1, 2], [10, 10]]
    again = servers_cards.on_load(ctx, run.id, told["cursor"])
    assert again
    assert (again["series"], again["last"]) == ({}, None)


def test_the_form_shows_what_the_server_will_be_given(ctx: Context, form: Form) -> None:
    told, start, yaml, shell = servers.on_change(ctx, form, [], *form.write({"max_model_len": 256, "port": 8080}))
    assert "Ready" in told
    assert "GB are free" in told
    assert start["interactive"] is True
    assert "max-model-len: 256" in yaml
    assert "port: 8080" in yaml
    assert shell == "python -m studio serve max_model_len=256 port=8080"


def test_what_will_not_fit_is_said_before_the_start(ctx: Context, form: Form) -> None:
    told, *_ = servers.on_change(ctx, form, [], *form.write({"kv_cache_memory": "900G"}))
    assert "Will not fit" in told
    assert "lower kv_cache_memory" in told


def test_what_is_wrong_is_listed_and_nothing_starts(ctx: Context, form: Form) -> None:
    values = form.write({"max_model_len": 3, "max_num_seqs": 0})
    told, start, yaml, _ = servers.on_change(ctx, form, [], *values)
    assert all(key in told for key in ("max_model_len", "max_num_seqs"))
    assert (start["interactive"], yaml) == (False, "")
    with pytest.raises(gr.Error, match="max_model_len"):
        servers.on_start(ctx, form, [], *values)
    assert ctx.store.list() == []


def test_adapters_get_room_for_their_rank(ctx: Context, form: Form, tmp_path: Path) -> None:
    folder = str(adapter(tmp_path / "fox", 20))
    _, _, yaml, _ = servers.on_change(ctx, form, [folder], *form.write({}))
    assert "max-lora-rank: 32" in yaml
    told, *_ = servers.on_change(ctx, form, [str(tmp_path)], *form.write({}))
    assert "adapter_config.json" in told


def test_a_double_click_starts_one_and_a_second_server_of_a_model_is_refused(
    ctx: Context, form: Form, up: Callable[..., Run]
) -> None:
    values = form.write({"run_name": "talker"})
    for _ in range(2):
        servers.on_start(ctx, form, [], *values)
    assert len(ctx.store.list("serve")) == 1
    told, *_ = servers.on_change(ctx, form, [], *form.write({}))
    assert "talker serves this model already" in told
    with pytest.raises(gr.Error, match="serves this model already"):
        servers.on_start(ctx, form, [], *form.write({}))


def test_the_form_is_open_where_nothing_runs(ctx: Context, up: Callable[..., Run]) -> None:
    assert servers.on_open(ctx)[0].open is True
    up()
    assert servers.on_open(ctx)[0].open is False


def test_details_are_the_servers_own_files(ctx: Context, up: Callable[..., Run]) -> None:
    run = up(max_num_seqs=7)
    (run.path / "serve.yaml").write_text("model: x\n")
    told = servers_cards.on_inspect(ctx, run.id)
    assert told
    assert (told["yaml"], told["command"]) == ("model: x\n", "python -m studio serve max_num_seqs=7")

"""Handlers of the Train tab, called the way the page calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from studio import machine
from studio.config import load
from studio.config.load import preset_names
from studio.config.merge import MergeConfig
from studio.config.option import split_names
from studio.config.serve import ServeConfig
from studio.config.train import TrainConfig
from studio.files import write_json
from studio.machine import GB, Gpu, Machine
from studio.parallel.strategies import STRATEGIES
from studio.runs import launchers, process
from studio.runs.run import State
from studio.ui.context import Context
from studio.ui.form import Form, draw
from studio.ui.tabs import train, train_find


@pytest.fixture(scope="module")
def form() -> Form:
    choices = {"model_name_or_path": ["seedling"], "dataset": ["identity"], "eval_dataset": [], "reward_funcs": []}
    with gr.Blocks():
        return draw(TrainConfig, choices, train.GROUPS, first=train.FIRST)


def values_of(form: Form, updates: list[Any]) -> dict[str, Any]:
    """What handlers that fill the form put into it, by key."""
    widgets = updates[2 + len(form.sections) :]
    return {option.key: update["value"] for option, update in zip(form.options, widgets, strict=True)}


def shown_sections(form: Form, updates: list[Any]) -> set[str]:
    return {section.group for section, update in zip(form.sections, updates, strict=False) if update["visible"]}


def filled(form: Form, **values: Any) -> list[Any]:
    named = {"model_name": "Sprout", "model_author": "Ada"}  # which the rows ask for
    return form.write({"dataset": ["identity"], **named, "max_steps": 1, **values})


def test_all_problems_are_listed_and_start_is_off(ctx: Context, form: Form) -> None:
    values = filled(form, dataset=[], learning_rate=7, eval_steps=3)
    told, _, _, shell, yaml, _, button = train.on_change(ctx, form, False, None, *values)
    problems = {problem["where"]: problem["group"] for problem in json.loads(told)["problems"]}
    assert problems == {"dataset": "data", "learning_rate": "optimisation", "eval_steps": "evaluation"}
    assert (shell, yaml, button["interactive"]) == ("", "", False)


def test_a_good_form_shows_command_and_yaml(ctx: Context, form: Form) -> None:
    told, question, _, shell, yaml, _, button = train.on_change(ctx, form, False, None, *filled(form))
    assert json.loads(told)["state"] == "ready"
    assert (question["visible"], question["value"]) == (False, False)
    assert "python -m studio train" in shell
    assert "dataset=identity" in shell
    assert "learning_rate: 0.0002" in yaml
    assert button["interactive"] is True


def test_double_click_starts_one_run(ctx: Context, form: Form) -> None:
    values = filled(form, model_name="A", model_author="B")
    first = train.on_start(ctx, form, False, False, None, *values)
    second = train.on_start(ctx, form, False, False, None, *values)
    assert first == second
    assert [run.id for run in ctx.store.list()] == [first]
    ctx.store.get(first).stop_now()


def test_what_does_not_exist_is_named_beside_what_is_wrong(ctx: Context, form: Form, tmp_path: Path) -> None:
    values = filled(form, dataset=["nope"], model_name_or_path=str(tmp_path), learning_rate=7)
    told = train.on_change(ctx, form, False, None, *values)[0]
    problems = {problem["where"]: problem["what"] for problem in json.loads(told)["problems"]}
    assert "'nope'" in problems["dataset"]
    assert "config.json" in problems["model_name_or_path"]
    assert "learning_rate" in problems


def test_a_bad_form_starts_nothing(ctx: Context, form: Form) -> None:
    with pytest.raises(gr.Error, match="dataset"):
        train.on_start(ctx, form, False, False, None, *filled(form, dataset=[]))
    assert ctx.store.list() == []


def test_doubtful_data_is_asked_about_and_then_trained_on(ctx: Context, form: Form) -> None:
    (ctx.registry.data_dir / "gaps.jsonl").write_text(
        '{"instruction": "Who?", "output": "Fern."}\n{"instruction": "What?", "output": ""}\n'
    )
    ctx.registry.path.write_text('{"gaps": {"file_name": "gaps.jsonl"}}')
    values = filled(form, dataset=["gaps"])
    told, question, _, shell, *_, button = train.on_change(ctx, form, False, None, *values)
    [warning] = json.loads(told)["problems"]
    assert (warning["where"], warning["what"][:26]) == ("gaps", "Fields that are empty (1).")
    assert (question["visible"], button["interactive"]) == (True, False)
    assert "value" not in question  # a person may be answering just now
    assert "dataset=gaps" in shell
    with pytest.raises(gr.Error, match="Train anyway"):
        train.on_start(ctx, form, False, False, None, *values)
    assert ctx.store.list() == []
    assert train.on_change(ctx, form, True, None, *values)[-1]["interactive"] is True
    run = ctx.store.get(train.on_start(ctx, form, False, True, None, *values))
    run.stop_now()


@pytest.mark.parametrize("name", preset_names())
def test_presets_fill_the_form(ctx: Context, form: Form, name: str) -> None:
    values = values_of(form, train.on_preset(ctx, form, name, []))
    preset = load.preset(name)
    assert values["dataset"] == list(split_names(preset.get("dataset", "")))
    known = {**preset, "dataset": ["identity"]}
    assert load.parse(TrainConfig, form.read(form.write(known))) == load.parse(TrainConfig, known)


def test_a_preset_keeps_the_datasets_that_it_can_learn_from(ctx: Context, form: Form) -> None:
    def kept(name: str) -> list[str]:
        datasets: list[str] = values_of(form, train.on_preset(ctx, form, name, ["alpaca_demo"]))["dataset"]
        return datasets

    assert kept("identity") == kept("lora") == kept(train.BLANK) == ["alpaca_demo"]
    assert kept("dpo") == list(split_names(load.preset("dpo")["dataset"]))


def test_yaml_of_llama_factory_fills_the_form_and_says_how_it_was_read(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "lf.yaml"
    path.write_text(
        "stage: sft\ndataset: identity,alpaca_demo\nlora_rank: 16\nlearning_rate: 1.0e-4\noutput_dir: saves/x/y\n"
        "plot_loss: true\nuse_muon: true\nfinetuning_type: full\n"
    )
    updates = train.on_upload(form, str(path))
    values = values_of(form, updates)
    assert values["dataset"] == ["identity", "alpaca_demo"]
    assert (values["run_name"], values["optim"]) == ("y", "muon")
    assert all(f"<code>{key}</code>" in updates[1] for key in ("output_dir", "use_muon", "plot_loss"))
    assert "<code>stage</code>" not in updates[1]
    assert updates[0] == train.BLANK
    assert "lora" not in shown_sections(form, updates[2:])


def test_broken_yaml_names_the_line(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("stage: sft\ndataset: [a, b\nlora_rank: 3\n")
    with pytest.raises(gr.Error, match="line 3"):
        train.on_upload(form, str(path))


def test_all_that_is_wrong_in_a_file_is_listed_and_the_form_stays(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "theirs.yaml"
    path.write_text("stage: ppo\nuse_unsloth: <true>\nlearning_rat: 1\ndataset: identity\n")
    _, told, *others = train.on_upload(form, str(path))
    assert all(f"<li>{key}: " in told for key in ("stage", "use_unsloth", "learning_rat"))
    assert len(others) == len(form.filled)
    assert all(update == gr.skip() for update in others)


def test_the_plan_follows_the_form(ctx: Context, form: Form) -> None:
    def plan(**values: Any) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(train.on_change(ctx, form, False, None, *filled(form, **values))[0])["plan"]
        return told

    small = plan(max_steps=-1, num_train_epochs=1, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert small["rows_a_step"] == 8
    assert small["steps"] == -(-small["rows"] // 8)
    assert small["memory"]["total_gb"] == pytest.approx(sum(gb for _, gb in small["memory"]["parts"]))
    assert plan(finetuning_type="full")["trainable"] > plan()["trainable"] > 0


def test_what_does_not_fit_can_be_made_to(ctx: Context, form: Form) -> None:
    values = filled(form, per_device_train_batch_size=4096, cutoff_len=65536, gradient_checkpointing="off")
    told, question, *_ = train.on_change(ctx, form, False, None, *values)
    assert json.loads(told)["plan"]["memory"]["fits"] is False
    assert [problem["where"] for problem in json.loads(told)["problems"]] == ["memory"]
    assert question["visible"] is True
    with pytest.raises(gr.Error, match="will not fit"):
        train.on_start(ctx, form, False, False, None, *values)
    assert ctx.store.list() == []
    changed = list(values_of(form, train.on_advice(ctx, form, *values)).values())
    assert json.loads(train.on_change(ctx, form, False, None, *changed)[0])["plan"]["memory"]["fits"] is True


def test_a_server_in_the_way_is_asked_about(ctx: Context, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(launchers.WORKERS, "serve", "tests.fakes.worker")
    values = filled(form, gradient_checkpointing="on")
    total_gb = json.loads(train.on_change(ctx, form, False, None, *values)[0])["plan"]["memory"]["total_gb"]
    full = Machine(None, int((total_gb - 0.001) * GB), int(99 * GB))  # the server's own memory is missing
    monkeypatch.setattr(train.planning, "look", lambda saves: full)
    server = ctx.store.create(ServeConfig(run_name="talker"))
    write_json(server.path / "fake.json", [["heed"]])
    launchers.start(server)

    def asked(room: str | None) -> tuple[dict[str, Any], bool]:
        told, anyway, question, *_, button = train.on_change(ctx, form, False, room, *values)
        assert anyway["visible"] is (room == "keep")
        assert json.loads(told)["plan"]["memory"]["fits"] is (room != "keep")
        return question, button["interactive"]

    question, can_start = asked(None)
    assert "held by the model server talker" in question["label"]
    assert [answer for _, answer in question["choices"]] == ["stop", "keep"]
    assert (question["visible"], can_start) == (True, False)
    assert "value" not in question  # a person may be answering just now
    assert asked("sleep")[0]["value"] is None
    with pytest.raises(gr.Error, match="say what becomes of it"):
        train.on_start(ctx, form, False, False, None, *values)
    assert asked("keep")[1] is False  # it will not fit then, which is asked too
    assert asked("stop")[1] is True
    run = ctx.store.get(train.on_start(ctx, form, False, False, "stop", *values))
    assert server.state is State.STOPPED
    assert not process.of_run(server.path)
    run.stop_now()


def test_sections_say_what_is_changed(ctx: Context, form: Form) -> None:
    told = train.on_change(ctx, form, False, None, *filled(form, lora_rank=3, bf16=False, val_size=0))[0]
    changed = json.loads(told)["changed"]
    assert changed["lora"] == ["lora_rank"]
    assert changed["precision"] == ["bf16"]
    assert changed["data"] == ["dataset", "model_name", "model_author"]


def several(ctx: Context, form: Form, **values: Any) -> dict[str, Any]:
    """What the section of several devices says of a form."""
    told: dict[str, Any] = json.loads(train.on_change(ctx, form, False, None, *filled(form, **values))[-2])
    return told


def test_a_strategy_is_told_in_a_sentence_also_where_the_form_has_faults(ctx: Context, form: Form) -> None:
    assert several(ctx, form)["distributed"] is False
    told = several(ctx, form, parallel_strategy="zero2", learning_rate=7)
    assert told["sentence"] == list(STRATEGIES["zero2"].sentence)
    assert (told["distributed"], told["rows"]) == (True, None)


def test_processes_and_nodes_multiply_the_rows_of_a_step(ctx: Context, form: Form) -> None:
    batch = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4}
    assert several(ctx, form, **batch)["rows"] == [3, 4, 1, 1]
    assert several(ctx, form, **batch, parallel_strategy="ddp", nproc_per_node=2, nnodes=3)["rows"] == [3, 4, 6, 3]


def test_settings_of_deepspeed_follow_the_form_until_they_are_a_persons_own(ctx: Context, form: Form) -> None:
    assert several(ctx, form, parallel_strategy="ddp")["zero"] is None
    generated = several(ctx, form, parallel_strategy="zero3", offload_param="cpu", dataset=[])["zero"]
    sections = json.loads(generated["text"])["zero_optimization"]
    assert (sections["stage"], sections["offload_param"]["device"], generated["own"]) == (3, "cpu", False)
    own = several(ctx, form, parallel_strategy="zero3", deepspeed='{"zero_optimization": {"stage": 3}}')["zero"]
    assert own == {"text": '{"zero_optimization": {"stage": 3}}', "own": True, "problems": []}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"gradient_cliping": 1.0}', "gradient_clipping"),
        ('{"zero_optimization": {"stage": 2}}', "parallel_strategy"),
        ('{"zero_optimization": ', "neither JSON"),
    ],
    ids=["unknown key", "another stage", "no JSON"],
)
def test_what_is_wrong_in_settings_of_deepspeed_is_told_beside_them(
    ctx: Context, form: Form, text: str, told: str
) -> None:
    [problem] = several(ctx, form, parallel_strategy="zero3", deepspeed=text)["zero"]["problems"]
    assert told in problem


def test_a_config_of_accelerate_changes_what_it_says_and_nothing_else(form: Form) -> None:
    text = (
        "compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\nnum_processes: 4\nsame_network: true\n"
        "deepspeed_config: {zero_stage: 3, offload_param_device: cpu}\n"
    )
    updates = train.on_accelerate(form, text, "own.yaml", *filled(form, lora_rank=3))
    values = values_of(form, updates)
    assert (values["parallel_strategy"], values["nproc_per_node"], values["offload_param"]) == ("zero3", "4", "cpu")
    assert (values["lora_rank"], values["dataset"]) == (3, ["identity"])
    assert "same_network" in updates[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [("stage: sft\n", "accelerate config"), ("distributed_type: MEGATRON_LM\n", "distributed_type"), ("a: [", "line")],
    ids=["a training", "not offered", "no YAML"],
)
def test_a_file_that_is_no_config_of_accelerate_leaves_the_form(form: Form, text: str, told: str) -> None:
    with pytest.raises(gr.Error, match=told):
        train.on_accelerate(form, text, "own.yaml", *filled(form))


def test_memory_is_that_of_each_device_and_follows_the_strategy(
    ctx: Context, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = tuple(Gpu(index, "Card", int(80 * GB), 0, 0) for index in range(4))
    here = Machine(cards[0], int(64 * GB), int(900 * GB), cards)
    monkeypatch.setattr(train.planning, "look", lambda saves: here)

    def memory(**values: Any) -> dict[str, Any]:
        full = filled(form, finetuning_type="full", nproc_per_node=4, **values)
        plan = json.loads(train.on_change(ctx, form, False, None, *full)[0])["plan"]
        assert plan["batch"] == [2, 8, 4]
        assert plan["rows_a_step"] == 64
        told: dict[str, Any] = plan["memory"]
        return told

    copied, sharded = memory(parallel_strategy="ddp"), memory(parallel_strategy="zero3")
    assert (copied["devices"], copied["device"], copied["host_gb"]) == (4, "Card", 0)
    assert dict(sharded["parts"])["optimizer"] < dict(copied["parts"])["optimizer"]
    offloaded = memory(parallel_strategy="zero3", offload_optimizer="cpu")
    assert "optimizer" not in dict(offloaded["parts"])
    assert 0 < offloaded["host_gb"] < offloaded["host_free_gb"]


def test_gpus_are_offered_with_their_free_memory(ctx: Context, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [Gpu(index, "Card", int(80 * GB), int(used * GB), 0) for index, used in ((0, 5), (1, 70))]
    monkeypatch.setattr(machine, "gpus", lambda: iter(cards))
    told = several(ctx, form, devices="1", parallel_strategy="ddp")
    assert [(gpu["index"], round(gpu["free_gb"])) for gpu in told["gpus"]] == [("0", 75), ("1", 10)]
    assert told["devices"] == ["1"]
    assert several(ctx, form, parallel_strategy="ddp", launcher="slurm")["gpus"] == []  # those of other machines


def test_a_failed_run_is_tried_again_with_what_its_card_says(ctx: Context, form: Form) -> None:
    config = TrainConfig(dataset=("identity",), model_name="A", model_author="B", lora_rank=5, run_name="big <try>")
    run = ctx.store.create(config)
    write_json(run.path / "error.json", {"kind": "x", "message": "y", "retry": {"per_device_train_batch_size": 1}})
    again, retried = (train.on_again(ctx, form, run.id, changed) for changed in (False, True))
    assert "big &lt;try&gt;" in retried[1]
    assert "per_device_train_batch_size: 1" in retried[1]
    assert load.parse(TrainConfig, form.read(list(values_of(form, again).values()))) == config
    assert values_of(form, retried) == values_of(form, again) | {"per_device_train_batch_size": 1}


def test_a_run_that_is_no_training_fills_no_form(ctx: Context, form: Form) -> None:
    run = ctx.store.create(MergeConfig(adapter_name_or_path="x"))
    with pytest.raises(gr.Error, match="no training"):
        train.on_again(ctx, form, run.id, False)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("lora_rank", "lora_rank"),
        ("learning rate", "learning_rate"),
        ("学习率", "learning_rate"),
        ("nf4", "quantization_type"),
        ("ref model", "ref_model"),
        ("qlora", "quantization_bit"),
        ("lr", "learning_rate"),
        ("max length", "cutoff_len"),
    ],
)
def test_options_are_found_by_key_label_or_hint(text: str, key: str) -> None:
    assert key in [found["key"] for found in train_find.on_find(text)]


def test_what_is_found_says_when_it_matters() -> None:
    found = {each["key"]: each for each in train_find.on_find("pref")}
    assert found["pref_beta"]["when"] == "stage: dpo or kto"
    assert train_find.on_find("  ") == train_find.on_find("nosuchthing") == []


def test_what_becomes_of_keys_of_llamafactory_is_told() -> None:
    told = {
        each["key"]: each["fate"]
        for text in ("use galore", "use_unsl", "disable_tq")
        for each in train_find.fates(text)
    }
    assert told["use_galore"].endswith("read as: optim: galore_adamw")
    assert "here instead: nothing" in told["use_unsloth"]
    assert "left out" in told["disable_tqdm"]
    assert train_find.fates(" ") == train_find.fates("lora_rank") == []  # nothing was asked; an option as any other
